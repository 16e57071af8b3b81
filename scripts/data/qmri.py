"""Quantitative maps from a BIDS dataset: which subjects there are, and their maps in project units."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scripts.data.layout import MAPS, OPTIONAL, find_entries, find_root, read_groups, read_people, read_sidecar
from scripts.data.units import LABELS, LIMITS, UNITS, check_settings, convert, guess_units, white_matter_median
from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header, read_volume

__all__ = [
    "R2STAR_CONSTANT",
    "R2_OVER_R2STAR",
    "find_subjects",
    "load_maps",
    "substitutes",
]

R2_OVER_R2STAR = 0.7
"""R2 / R2* in brain at 3 T, by which a missing R2* is made from R2 (0.65 to 0.9: Cox 2010, Peters 2007)."""

R2STAR_CONSTANT = 20.0
"""R2* [1/s] of the whole brain where there is neither R2* nor R2: that of cortex and white matter at 3 T."""

_SAMPLE = 20_000  # brain voxels from which units are guessed
_LARGEST_BRAIN = 3.0  # litres
logger = logging.getLogger(__name__)


def find_subjects(dataset_dir: str | Path, *, missing: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one entry per subject and session of a BIDS qMRI dataset, sorted, after checking every header.

    The maps are ``sub-*/[ses-*/]anat/sub-*_{PDmap,R1map,R2starmap,MTsat[,R2map]}.nii[.gz]`` under
    ``dataset_dir`` or one pipeline of its ``derivatives``; ``group`` comes from ``participants.tsv``.

    Args:
        dataset_dir: the dataset or its derivative folder.
        missing: maps that may be absent, of ``mtsat`` (then 0: no MT) and ``r2star`` (then R2 / 0.7 or,
            without R2, 20 1/s throughout the brain); what is taken instead is logged.

    Returns:
        Entries ``{"subject", "session", "group", "pd", "r1", "r2star", "mtsat", "r2"}``; maps are paths
        or None. Where ``participants.tsv`` tells whose head a subject is, also ``"person"``.

    Raises:
        InputError: if there is no dataset or no subject; if a map is missing, given twice or unreadable; if
            the maps of one subject differ in shape or place. Names the first problem and counts the others.
    """
    unknown = sorted(set(missing) - set(OPTIONAL))
    if isinstance(missing, str) or unknown:
        raise InputError(f"missing={missing!r}: give a list of mtsat and r2star, the maps that may be absent")
    root = find_root(dataset_dir)
    groups, people = read_groups(root), read_people(root)
    found: list[dict[str, Any]] = []
    problems: list[InputError] = []
    for folder in sorted(path for path in root.glob("sub-*") if path.is_dir()):
        try:
            entries = find_entries(folder, missing)
            for entry in entries:
                _check_grid(entry)
        except InputError as error:
            problems.append(error)
            continue
        person = {"person": people[folder.name]} if folder.name in people else {}
        found.extend({**entry, "group": groups.get(folder.name), **person} for entry in entries)
    if problems:
        more = f" ({len(problems) - 1} more subjects have problems)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}")
    _log_substitutes(found)
    return found


def load_maps(
    subject: Mapping[str, Any],
    *,
    units: Mapping[str, str] | str = "auto",
    nan: Literal["error", "zero"] = "error",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of one subject in the project's units and their affine.

    Brain is where PD and R1 are both positive; all maps are 0 elsewhere. Negative values become 0 and fits
    that blew up the limits of `scripts.data.units.LIMITS`. Axes are brought to RAS+ order; nothing is
    resampled. An MTsat that is 0 everywhere is taken where its sidecar has a ``Substitute``.

    Args:
        subject: an entry of `find_subjects`.
        units: what the files hold, e.g. ``{"r1": "1/ms"}``; ``"auto"`` takes project units and raises, naming
            the setting to give, where the brain median looks like something else.
        nan: ``"error"``, or ``"zero"`` to set NaN and infinite voxels to 0.

    Returns:
        Maps (4 or 5, I, J, K) float32: PD [p.u.], R1 [1/s], R2* [1/s], MTsat [p.u.] and, where the subject
        has it, R2 [1/s]; affine (4, 4) from voxels to mm.

    Raises:
        InputError: if a map is unreadable, all 0, holds NaN, lies on another grid or in other units.
    """
    settings = check_settings(units)
    _check_grid(subject)
    volumes: dict[str, np.ndarray] = {}
    affine = np.eye(4)
    for name in MAPS:
        if subject.get(name):
            volumes[name], affine = read_volume(subject[name], nan=nan)
            if not volumes[name].any() and name == "mtsat" and read_sidecar(subject[name]).get("Substitute"):
                del volumes[name]
            elif not volumes[name].any():
                raise InputError(f"{subject[name]} is 0 everywhere: restore the {LABELS[name]} map")
    brain = (volumes["pd"] > 0) & (volumes["r1"] > 0)
    _check_brain(subject, brain, affine)
    _convert_all(subject, volumes, brain, settings)
    if "mtsat" not in volumes:
        volumes["mtsat"] = np.zeros_like(volumes["pd"])
    if "r2star" not in volumes:
        volumes["r2star"] = (
            volumes["r2"] / np.float32(R2_OVER_R2STAR)
            if "r2" in volumes
            else np.full_like(volumes["pd"], R2STAR_CONSTANT)
        )
    maps = np.zeros((len(volumes), *brain.shape), dtype=np.float32)
    for channel, name in enumerate(name for name in MAPS if name in volumes):
        np.clip(volumes.pop(name), 0, LIMITS[name], out=maps[channel])
        maps[channel] *= brain
    return maps, affine


def substitutes(subject: Mapping[str, Any]) -> dict[str, str]:
    """Return what is taken instead of each map that a subject lacks, in words; empty if it has all four.

    Also what stands in the files of maps that were made, as the ``Substitute`` of their sidecars tells.
    """
    made = {name: read_sidecar(subject[name]).get("Substitute") for name in MAPS if subject.get(name)}
    instead = {name: str(text) for name, text in made.items() if text}
    if not subject.get("mtsat"):
        instead["mtsat"] = "0, the MT term of the signal is off"
    if not subject.get("r2star"):
        has_r2 = bool(subject.get("r2"))
        instead["r2star"] = f"R2 / {R2_OVER_R2STAR}" if has_r2 else f"{R2STAR_CONSTANT:g} 1/s throughout the brain"
    return instead


def _convert_all(
    subject: Mapping[str, Any], volumes: dict[str, np.ndarray], brain: np.ndarray, settings: Mapping[str, str]
) -> None:
    """Bring every volume to project units in place; R1 first, because the other maps are judged by it."""
    voxels = np.flatnonzero(brain)
    voxels = voxels[:: max(1, len(voxels) // _SAMPLE)]
    samples = {name: volume.reshape(-1)[voxels] for name, volume in volumes.items()}
    for name in ("r1", *(name for name in MAPS if name != "r1" and name in volumes)):
        unit = settings[name]
        if unit == "auto":
            others = {key: sample for key, sample in samples.items() if key != name}
            unit = _require_own_unit(subject, name, samples[name], others)
        white_matter = white_matter_median(samples["pd"], samples["r1"]) if unit == "a.u." else None
        samples[name] = convert(name, samples[name], unit, white_matter=white_matter)
        median = float(np.median(samples[name]))
        if not 0 < median <= LIMITS[name]:
            raise InputError(
                f"{subject[name]} has a brain median of {median:.4g} {UNITS[name][0]} when read as {unit}, "
                f"outside 0 to {LIMITS[name]:g}: correct units for {name}"
            )
        volumes[name] = convert(name, volumes[name], unit, white_matter=white_matter)


def _require_own_unit(
    subject: Mapping[str, Any], name: str, sample: np.ndarray, others: Mapping[str, np.ndarray]
) -> str:
    guesses = guess_units(name, sample, others)
    own = UNITS[name][0]
    if own in guesses:
        return own
    told = f"{LABELS[name]} of {subject['subject']}"
    median = f"brain median {float(np.median(sample)):.4g}"
    if not guesses:
        raise InputError(f"{told} looks like no known unit ({median}): check {subject[name]}, or set units for {name}")
    setting = " or ".join(f'units={{"{name}": "{unit}"}}' for unit in guesses)
    raise InputError(
        f"{told} looks like {' or '.join(guesses)} ({median}, {subject[name]}): set {setting}, "
        f'or "{own}" to take it as it is'
    )


def _check_brain(subject: Mapping[str, Any], brain: np.ndarray, affine: np.ndarray) -> None:
    if not brain.any():
        raise InputError(f"{subject['pd']} and {subject['r1']} are positive in no common voxel: check both maps")
    litres = float(brain.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1e6
    if litres > _LARGEST_BRAIN and read_sidecar(subject["pd"]).get("SkullStripped") is not False:
        logger.warning("%s: PD and R1 are positive in %.1f l; were the maps masked?", subject["subject"], litres)


def _check_grid(subject: Mapping[str, Any]) -> None:
    headers = [read_header(subject[name]) for name in MAPS if subject.get(name)]
    for header in headers[1:]:
        check_same_grid(headers[0], header)


def _log_substitutes(found: Sequence[Mapping[str, Any]]) -> None:
    taken = [item for entry in found for item in substitutes(entry).items()]
    for name, instead in sorted(set(taken)):
        n = taken.count((name, instead))
        logger.warning("%d of %d scans have no %s map: taken as %s", n, len(found), LABELS[name], instead)
