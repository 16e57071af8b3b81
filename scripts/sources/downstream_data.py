"""The subjects of a downstream run: IXI, ARC, or the embedded cohort laid out like it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scripts.cohort.make import PROVENANCE
from scripts.data import arc, ixi
from scripts.data.layout import read_people
from scripts.data.splits import PARTS, claim_split, keep_split, label_subset, split_file, split_subjects
from scripts.errors import InputError
from scripts.ranks import main_process_first
from scripts.sources.pretraining_data import EMBEDDED
from scripts.switches import is_on
from scripts.tasks import SYNTHETIC

__all__ = ["check_training", "downstream_data"]

logger = logging.getLogger(__name__)


def downstream_data(
    layout: str,
    dataset_dir: str | Path,
    work_dir: str | Path,
    modality: str,
    *,
    labels: bool = True,
    label_fraction: float = 1.0,
    draw: int = 0,
    embedded: Mapping[str, Any] | None = None,
    fractions: Sequence[float] = (0.7, 0.1),
    training_site: str = "Guys",
    split_over: str = "dataset",
) -> dict[str, Any]:
    """Find, check and split the images of one modality; what their headers tell to be wrong is told here.

    Args:
        layout: ``ixi`` or ``arc``.
        dataset_dir: folder of the dataset, or ``embedded`` for the simulated cohort, which is made on first use.
        work_dir: where the embedded cohort and ``split.json`` go.
        modality: T1w, T2w, PDw (IXI) or FLAIR (ARC).
        labels: whether entries need labels.
        label_fraction: share of the training subjects, or of their people, that is used.
        draw: which subjects that are, see `scripts.data.splits.label_subset`.
        embedded: arguments of the embedded cohort.
        fractions: shares of the sorted subjects (of the training site) for training and validation.
        training_site: of IXI; all subjects of its other sites are test subjects.
        split_over: ``dataset`` splits the subjects of all modalities once, ``modality`` those that have this one.

    A split that lies in the dataset's folder (see `scripts.data.splits.split_file`), as ``prepare`` writes it, is
    taken as it is.

    Returns:
        ``training``, ``validation`` and ``test`` entries, ``cohort`` (embedded or real), ``dataset_dir``,
        ``subjects`` that are trained on, in words, and the split's ``sha256``.

    Raises:
        InputError: for anything about folder, modality or files that does not fit.
    """
    work_dir, settings = Path(work_dir), dict(embedded or {})

    def prepare() -> dict[str, Any]:
        folder = _embedded_cohort(layout, work_dir, settings) if str(dataset_dir) == EMBEDDED else Path(dataset_dir)
        entries = (ixi.find_ixi if layout == "ixi" else arc.find_arc)(folder, modality, labels=labels)
        if split_over == "modality":
            names = [entry["subject"] for entry in entries]
        else:
            names = (ixi.ixi_subjects if layout == "ixi" else arc.arc_subjects)(folder)
        people = read_people(folder)
        if layout == "ixi":
            split = ixi.split_ixi(names, fractions, training_site, people)
        else:
            split = split_subjects(names, fractions, people=people)
        file = split_file(modality if split_over == "modality" else None)
        split = keep_split(split, folder / file)
        claim_split(split, work_dir / file)
        parts = {part: [entry for entry in entries if entry["subject"] in set(split[part])] for part in PARTS}
        used = label_subset([entry["subject"] for entry in parts["training"]], label_fraction, draw, people)
        return _described(parts, split, folder, modality, used, label_fraction)

    if layout not in ("ixi", "arc"):
        raise InputError(f"layout={layout!r} is unknown: choose ixi or arc")
    if split_over not in ("dataset", "modality"):
        raise InputError(f"split_over={split_over!r} is unknown: choose dataset or modality")
    return main_process_first(prepare)


def check_training(ckpt_dir: str | Path, data: Mapping[str, Any], modality: str, cross_modality: Any = False) -> str:
    """Make sure that a trained network may be tested on these subjects: it was trained by the same split.

    One that was trained on simulated contrasts of other people's maps may be tested on any.

    Args:
        ckpt_dir: where training left ``checkpoint.pt``; without one, nothing is known and a warning says so.
        data: the result of `downstream_data`.
        modality: that is tested on.
        cross_modality: whether it may be another one than was trained on.

    Returns:
        The modality that was trained on, empty if unknown.

    Raises:
        InputError: for a network trained by another split, or on another modality, or a checkpoint that does
            not tell.
    """
    path = Path(ckpt_dir) / "checkpoint.pt"
    if not path.is_file():
        logger.warning("%s is missing: nothing tells whether the network was trained on these test subjects", path)
        return ""
    try:
        theirs = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["settings"]
        trained = str(theirs["modality"])
        their_split = str(theirs["split"])
    except Exception as error:
        raise InputError(
            f"{path} is damaged, or no checkpoint of this task: give the ckpt_dir of its training"
        ) from error
    if trained == SYNTHETIC:
        return trained
    if trained != modality and not is_on(cross_modality, "cross_modality"):
        raise InputError(
            f"{path} was trained on {trained}: type --modality {trained}, or --cross_modality true to test it on "
            f"{modality}"
        )
    if their_split != data["sha256"][:12]:
        across = ", or train and test with --split_over dataset" if trained != modality else ""
        raise InputError(
            f"{path} was trained by another split of subjects (hash {their_split}, now {data['sha256'][:12]}): "
            f"give the dataset_dir and work_dir of its training{across}"
        )
    return trained


def _described(
    parts: dict[str, list[dict[str, Any]]],
    split: Mapping[str, Any],
    folder: Path,
    modality: str,
    used: Sequence[str],
    label_fraction: float,
) -> dict[str, Any]:
    training = [entry for entry in parts["training"] if entry["subject"] in used]
    for part in ("validation", "test"):
        if not parts[part]:
            logger.warning("No %s subject has a %s image", part, modality)
    # an embedded cohort that the user made beforehand is not real either
    cohort = EMBEDDED if (folder / PROVENANCE).is_file() else "real"
    logger.info(
        "Data: %s of the %s cohort %s: %d of %d training subjects (label fraction %g), %d validation, %d test",
        modality,
        cohort,
        folder,
        len(training),
        len(parts["training"]),
        label_fraction,
        len(parts["validation"]),
        len(parts["test"]),
    )
    return {
        **parts,
        "training": training,
        "cohort": cohort,
        "dataset_dir": str(folder),
        "subjects": ", ".join(sorted(used)) if len(used) <= 3 else f"{len(used)} subjects, {min(used)} to {max(used)}",
        "sha256": split["sha256"],
    }


def _embedded_cohort(layout: str, work_dir: Path, settings: dict[str, Any]) -> Path:
    values: dict[str, Any]
    if layout == "ixi":
        values = {"guys": 20, "hh": 4, "iop": 4, "seed": 0, "spacing": None, **settings}
    else:
        values = {"subjects": 30, "seed": 0, "spacing": None, **settings}
    folders = {key: values[key] for key in ("label_maps", "lesions") if values.get(key)}
    name = "-".join(f"{key}{value}" for key, value in values.items() if value is not None and key not in folders)
    if folders:
        name = f"{name}-{hashlib.sha256(repr(sorted(folders.items())).encode()).hexdigest()[:8]}"
    folder = work_dir / f"{layout}-{name}"
    logger.info("No dataset_dir given: using the embedded cohort, simulated heads, in %s", folder)
    if layout == "ixi":
        from scripts.cohort.ixi_cohort import make_ixi_cohort

        return make_ixi_cohort(folder, **values)
    from scripts.cohort.arc_cohort import make_arc_cohort

    return make_arc_cohort(folder, **values)
