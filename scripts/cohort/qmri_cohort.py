"""The embedded qMRI cohort: a simulated BIDS derivative of quantitative maps, healthy and chronic stroke."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.cohort.finish import finish_cohort
from scripts.cohort.lattice import Grid, brain_grid, stream
from scripts.cohort.make import check_numbers, claim, make_all
from scripts.cohort.person import Person, draw_person, make_brain, segment
from scripts.cohort.qmri_files import STEPS, describe_dataset, map_sidecar, map_suffix
from scripts.cohort.tissue_values import draw_values, paint_maps
from scripts.errors import InputError
from scripts.io.write import write_json, write_nifti

__all__ = ["cohort_qmri", "make_qmri_cohort", "make_subject"]

# Bumped whenever the same seed no longer gives the same bytes.
_VERSION = 1
_LESION_SUFFIX = "desc-lesion_mask"


def cohort_qmri(out: str, subjects: int = 51, seed: int = 0, spacing: float = 1.0, jobs: int | None = None) -> None:
    """Write the embedded qMRI cohort and say what was written; the command ``cohort qmri``.

    Args:
        out: Folder to write; made where missing, continued where an earlier run was interrupted.
        subjects: How many subjects, healthy and stroke interleaved.
        seed: The same seed gives the same bytes.
        spacing: Voxel size [mm].
        jobs: Subjects made at once; by default one per core, at most 4.
    """
    brain_grid(spacing)
    size = subjects * 17.0 / spacing**3
    tqdm.write(f"Simulating {subjects} subjects at {spacing:g} mm, seed {seed}, into {out} (about {size:.0f} MB)")
    path = make_qmri_cohort(out, subjects, seed, spacing, jobs=jobs)
    what = f"maps in sub-*/anat, groups in {path / 'participants.tsv'}"
    finish_cohort(path, "qmri", what, jobs=jobs)


def make_qmri_cohort(
    out: str | Path,
    subjects: int = 51,
    seed: int = 0,
    spacing: float = 1.0,
    *,
    stroke_fraction: float = 29 / 51,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Write the embedded qMRI cohort as a BIDS derivative and return its folder.

    Every subject is written to a temporary folder and renamed, so an interrupted run leaves only whole
    subjects and the same call continues it; more ``subjects`` extend it. A subject does not depend on how
    many there are, nor on ``jobs``. One run at a time may write to a folder.

    Args:
        out: Folder to write; its parent must exist or be creatable.
        subjects: How many, at least 1.
        seed: Seed of everything random, at least 0.
        spacing: Voxel size [mm], 0.7 to 8.
        stroke_fraction: Share of subjects with a stroke lesion, 0 to 1.
        jobs: Subjects made at once; by default one per core, at most 4 (each needs up to 0.8 GB at 1 mm).
        progress: Whether to show a bar.

    Raises:
        InputError: If a setting is out of range, or ``out`` holds something else, a cohort made with other
            settings, or more subjects than asked for.
    """
    root = Path(out)
    grid = brain_grid(spacing)
    settings = _check_settings(subjects, seed, spacing, stroke_fraction, jobs)
    claim(root, settings)
    held = sum(path.is_dir() for path in root.glob("sub-*"))
    if held > subjects:
        raise InputError(f"{root} holds {held} subjects and {subjects} were asked for: choose another --out")
    people = [draw_person(number, seed, stroke_fraction) for number in range(1, subjects + 1)]
    missing = [person for person in people if not (root / person.name).is_dir()]
    make_all(
        people,
        missing,
        lambda person: make_subject(root, person, seed, grid),
        spacing=spacing,
        jobs=jobs,
        progress=progress,
    )
    describe_dataset(root, [_participant(root, person) for person in people], settings)
    return root


def make_subject(root: Path, person: Person, seed: int, grid: Grid) -> None:
    """Make one subject and write it below ``root``, whole or not at all."""
    anatomy, lesion, hyperintensity = make_brain(person, seed, grid)
    values = draw_values(stream(seed, person.number, "tissue"))
    maps = paint_maps(
        anatomy, values, stream(seed, person.number, "noise"), lesion=lesion, hyperintensity=hyperintensity
    )
    temporary = root / f".part-{person.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    folder = temporary / "anat"
    folder.mkdir(parents=True)
    for name, step in STEPS.items():
        stem = folder / f"{person.name}_{map_suffix(name)}"
        stored = np.maximum(np.rint(maps[name] / np.float32(step)), 0.0).astype(np.int16)
        volume = anatomy.volume(stored, np.int16)
        write_nifti(stem.with_suffix(".nii.gz"), volume, grid.affine, step=step, code="aligned")
        write_json(stem.with_suffix(".json"), map_sidecar(name))
    labels = anatomy.volume(segment(anatomy, lesion), np.uint8)
    write_nifti(folder / f"{person.name}_dseg.nii.gz", labels, grid.affine, code="aligned")
    if lesion is not None:
        stem = folder / f"{person.name}_{_LESION_SUFFIX}"
        mask = anatomy.volume(lesion.mask, np.uint8)
        write_nifti(stem.with_suffix(".nii.gz"), mask, grid.affine, code="aligned")
        millilitres = round(float(lesion.mask.sum()) * grid.spacing**3 / 1000.0, 3)
        content = {"Type": "Lesion", "LesionVolume": millilitres, "LesionVolumeUnits": "ml"}
        write_json(stem.with_suffix(".json"), content)
    temporary.rename(root / person.name)


def _participant(root: Path, person: Person) -> dict[str, str]:
    volume = "0"
    if person.lesion:
        sidecar = root / person.name / "anat" / f"{person.name}_{_LESION_SUFFIX}.json"
        volume = f"{json.loads(sidecar.read_text())['LesionVolume']:g}"
    return {
        "participant_id": person.name,
        "group": person.group,
        "sex": person.sex,
        "age": str(person.age),
        "lesion_volume": volume,
    }


def _check_settings(
    subjects: int, seed: int, spacing: float, stroke_fraction: float, jobs: int | None
) -> dict[str, Any]:
    """Return what the bytes of a subject depend on, besides its number."""
    if not isinstance(subjects, int) or not 1 <= subjects <= 999:
        raise InputError(f"subjects is {subjects}: choose a whole number from 1 to 999")
    check_numbers(seed, jobs)
    if not 0.0 <= stroke_fraction <= 1.0:
        raise InputError(f"stroke_fraction is {stroke_fraction:g}: choose a share from 0 to 1")
    return {
        "cohort": "qmri",
        "version": _VERSION,
        "seed": int(seed),
        "spacing": float(spacing),
        "stroke_fraction": round(float(stroke_fraction), 9),
    }
