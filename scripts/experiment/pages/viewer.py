"""What the page's viewer shows: the cases of each task as volumes, with their layers and colours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.experiment.pages.viewer_volumes import Packed, differences, load_case, pack
from scripts.experiment.results.collect import Results
from scripts.experiment.results.wording import MODALITIES
from scripts.tasks import TASKS
from scripts.variants import variant_label, variant_order

logger = logging.getLogger(__name__)

__all__ = ["niivue_source", "viewer_content"]

_DIFFERENT = {"truth and prediction differ": "#e060ff"}
_ROLES = {"image": "noisy", "prediction": "denoised", "truth": "clean"}
_LABELLED = {name: name for name in ("image", "truth", "prediction", "differences")}
_RANKS = ("median", "worst", "best")


def niivue_source() -> str:
    """Return the viewer's code, which the package nilearn carries.

    Raises:
        InputError: this nilearn carries none.
    """
    found = files("nilearn") / "_assets" / "js" / "niivue.umd.js"
    if not found.is_file():
        raise InputError('nilearn carries no niivue.umd.js: pip install "nilearn>=0.14.1"')
    # these two end or bend the script element that they stand in, wherever they are
    return found.read_text(encoding="utf-8").replace("</script", "<\\/script").replace("<!--", "<\\!--")


def viewer_content(results: Results, *, budget: int = 8_000_000) -> dict[str, Any]:
    """Return the cases for the viewer: the median of each task, and as many others as fit.

    Of each task one run is chosen: seqinv where there is one, the highest label fraction, T1w first. Its worst and
    best case follow the median, then the medians of the other variants.

    Args:
        results: with the paths of the cases' volumes.
        budget: bytes that all volumes together may have; the median of each task is shown in any case.

    Returns:
        ``cases``, ``volumes`` (key -> base64 of a gzipped NIfTI) and ``lost`` (how many cases had no readable
        volumes; the log says why), to be written as JSON.
    """
    cases: list[dict[str, Any]] = []
    volumes: dict[str, str] = {}
    used = lost = 0
    for row in _wanted(results.cases):
        try:
            case, packed = _case(row)
        except InputError as error:
            logger.warning("a case is left out of the viewer: %s", error)
            lost += 1
            continue
        new = {one.key: one.base64 for one in packed if one.key not in volumes}
        size = sum(len(text) for text in new.values())
        if used + size > budget and any(known["task"] == case["task"] for known in cases):
            continue
        used += size
        volumes.update(new)
        cases.append(case)
    return {"cases": sorted(cases, key=lambda case: list(TASKS).index(case["task"])), "volumes": volumes, "lost": lost}


def _wanted(cases: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of cases in the order of their importance."""
    if cases.empty:
        return []
    first, other = [], []
    for task in (name for name in TASKS if name in set(cases["task"])):
        own = cases[cases["task"] == task]
        run = _one_run(own)
        variants = variant_order(run["variant"].unique())
        chosen = "seqinv" if "seqinv" in variants else variants[0]
        first.append((task, chosen, run))
        other += [(run, variant, "median") for variant in variants if variant != chosen]
    rows = [(run, chosen, rank) for rank in _RANKS for _, chosen, run in first] + other
    found = [run[(run["variant"] == variant) & (run["rank"] == rank)] for run, variant, rank in rows]
    return [dict(match.iloc[0]) for match in found if len(match)]


def _one_run(cases: pd.DataFrame) -> pd.DataFrame:
    """Return the cases of one modality, the highest label fraction and the lowest seed, of all variants."""
    preferred = cases[cases["variant"] == "seqinv"]
    pool = preferred if len(preferred) else cases
    known = {name: place for place, name in enumerate(MODALITIES)}
    best = min(
        pool[["fraction", "modality", "seed"]].drop_duplicates().itertuples(index=False),
        key=lambda run: (-run.fraction, known.get(run.modality, len(known)), run.seed),
    )
    same = (cases["fraction"] == best.fraction) & (cases["modality"] == best.modality) & (cases["seed"] == best.seed)
    return cases[same]


def _case(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[Packed]]:
    task = str(row["task"])
    classes = {label.name: label.colour for label in TASKS[task].labels}
    volumes, affine, note = load_case({what: str(row[what]) for what in _ROLES}, labels=bool(classes))
    # noise has longer tails than the clean image, and all three are compared
    levels = _span(volumes["image" if classes else "truth"], 0.001, 0.999)
    window = _span(volumes["image" if classes else "truth"], 0.02, 0.995)
    layers: list[dict[str, Any]] = []
    packed = []
    if classes:
        volumes["differences"] = differences(volumes["truth"], volumes["prediction"])
    for what, name in (_LABELLED if classes else _ROLES).items():
        is_image = what == "image" or not classes
        packed.append(pack(volumes[what], affine, levels if is_image else None))
        colours = {} if is_image else _DIFFERENT if what == "differences" else classes
        named = [{"value": n, "name": label, "colour": colour} for n, (label, colour) in enumerate(colours.items(), 1)]
        layers.append({"name": name, "volume": packed[-1].key, "classes": named})
    words = {name: str(row[name]) for name in ("variant", "modality", "rank", "subject", "site", "metric")}
    numbers = {"fraction": float(row["fraction"]), "seed": int(row["seed"]), "value": round(float(row["value"]), 4)}
    where = (affine @ [*_centre(volumes["truth"], bool(classes)), 1.0])[:3].round(2).tolist()
    words["label"] = variant_label(words["variant"])
    shown = {"layers": layers, "mm": where, "window": window, "note": note}
    return {"task": task, "title": TASKS[task].title, **words, **numbers, **shown}, packed


def _span(image: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    first, last = (float(value) for value in np.quantile(image, [low, high]))
    return first, max(last, first + 1e-3)


def _centre(volume: NDArray[Any], is_label: bool) -> NDArray[Any]:
    """Return the voxel in the middle of what is labelled, or of the volume."""
    where = np.nonzero(volume)
    if not is_label or not len(where[0]):
        return np.asarray(volume.shape) / 2
    if volume.max() > 1:
        return np.asarray([np.median(axis) for axis in where])
    # a lesion has many shapes: the levels that cut most of it cross in it more often than its median does
    return np.asarray([np.bincount(axis).argmax() for axis in where])
