"""The subjects of a pretraining run: a folder of quantitative maps, or the embedded cohort."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scripts.cohort.make import PROVENANCE
from scripts.data.qmri import find_subjects
from scripts.data.splits import PARTS, select, split_subjects, write_split
from scripts.data.store import prepare_store
from scripts.data.store_read import read_store_header
from scripts.errors import InputError
from scripts.ranks import main_process_first

__all__ = ["EMBEDDED", "pretraining_data"]

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"
_FRACTIONS, _FRACTIONS_OF_PEOPLE = (0.7, 0.1), (0.7, 0.15)


def pretraining_data(
    dataset_dir: str | Path,
    work_dir: str | Path,
    *,
    embedded: Mapping[str, Any] | None = None,
    fractions: Sequence[float] | None = None,
    missing: Sequence[str] = (),
    units: Mapping[str, str] | str = "auto",
    nan: Literal["error", "zero"] = "error",
    jobs: int = 2,
) -> dict[str, Any]:
    """Find, check, split and cache the subjects; everything that can be wrong with them is told here.

    Args:
        dataset_dir: a BIDS derivative of quantitative maps, or ``embedded`` for the simulated cohort, which is
            made on first use.
        work_dir: where the embedded cohort and the cache of cropped maps go.
        embedded: subjects, seed and spacing of the embedded cohort; label_maps, whole_heads and lesions, see
            `scripts.cohort.qmri_cohort.make_qmri_cohort`.
        fractions: shares of the sorted subjects for training and validation; the rest is held out. None is 0.7 and
            0.1; 0.7 and 0.15 of the people where several subjects are one person's, who all stay together.
        missing: maps that subjects may lack, see `scripts.data.qmri.find_subjects`.
        units: units of the maps where they cannot be told, see `scripts.data.qmri.load_maps`.
        nan: ``error`` refuses maps that hold NaN or Inf, ``zero`` sets such voxels to 0.
        jobs: subjects that are prepared side by side.

    Returns:
        ``training``, ``validation`` and ``test`` lists of subjects, ``cohort`` (embedded or real),
        ``dataset_dir``, ``spacing`` (the median side of a voxel [mm]) and the split's ``sha256``.

    Raises:
        InputError: for a folder that does not exist, or maps that cannot be used.
    """
    work_dir = Path(work_dir)
    return main_process_first(
        lambda: _prepare(dataset_dir, work_dir, dict(embedded or {}), fractions, missing, units, nan, jobs)
    )


def _prepare(
    dataset_dir: str | Path,
    work_dir: Path,
    embedded: dict[str, Any],
    fractions: Sequence[float] | None,
    missing: Sequence[str],
    units: Mapping[str, str] | str,
    nan: Literal["error", "zero"],
    jobs: int,
) -> dict[str, Any]:
    is_embedded = str(dataset_dir) == EMBEDDED
    if is_embedded:
        folder = _embedded_cohort(work_dir, embedded, jobs)
    else:
        folder = Path(dataset_dir)
        if not folder.is_dir():
            msg = f"dataset_dir {folder} does not exist: give a folder of quantitative maps, or '{EMBEDDED}'"
            raise InputError(msg)
    subjects = find_subjects(folder, missing=missing)
    stored = prepare_store(subjects, work_dir / "cache" / _slug(folder), units=units, nan=nan, jobs=jobs)
    people = {entry["subject"]: entry["person"] for entry in stored if entry.get("person")}
    fractions = fractions or (_FRACTIONS_OF_PEOPLE if people else _FRACTIONS)
    split = split_subjects([entry["subject"] for entry in stored], fractions, people=people)
    write_split(split, work_dir / "split.json")
    parts: dict[str, Any] = {part: select(stored, part, splits=split) for part in PARTS}
    counts = ", ".join(f"{len(parts[part])} {part}" for part in PARTS)
    # an embedded cohort that the user made beforehand is not real either
    cohort = EMBEDDED if (folder / PROVENANCE).is_file() else "real"
    logger.info("Data: %s cohort %s: %s subjects", cohort, folder, counts)
    return {
        **parts,
        "cohort": cohort,
        "dataset_dir": str(folder),
        "spacing": round(float(np.median([read_store_header(entry["store"]).spacing for entry in stored])), 3),
        "sha256": split["sha256"],
    }


def _embedded_cohort(work_dir: Path, settings: dict[str, Any], jobs: int) -> Path:
    from scripts.cohort.qmri_cohort import make_qmri_cohort

    values = {"subjects": 51, "seed": 0, "spacing": 1.0, **settings}
    folder = work_dir / "cohort-n{subjects}-s{seed}-{spacing:g}mm".format(**values)
    chosen = {name: values[name] for name in ("label_maps", "whole_heads", "lesions") if values.get(name)}
    if chosen:
        folder = folder.with_name(
            f"{folder.name}-{hashlib.sha256(repr(sorted(chosen.items())).encode()).hexdigest()[:8]}"
        )
    logger.info("No dataset_dir given: training on the embedded cohort, simulated anatomy, in %s", folder)
    return make_qmri_cohort(folder, jobs=jobs, **values)


def _slug(folder: Path) -> str:
    return f"{folder.name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
