"""The embedded qMRI cohort: a simulated BIDS derivative of quantitative maps, healthy and chronic stroke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.cohort.finish import finish_cohort
from scripts.cohort.label_cohort import LabelSource, find_source, make_label_subject
from scripts.cohort.label_maps import find_label_maps
from scripts.cohort.lattice import Grid, brain_grid, stream
from scripts.cohort.make import check_numbers, claim, make_all
from scripts.cohort.person import Person, draw_person, make_brain, segment
from scripts.cohort.qmri_files import LESION_SUFFIX, README, describe_dataset, write_subject
from scripts.cohort.tissue_values import draw_values, paint_maps
from scripts.errors import InputError

__all__ = ["cohort_qmri", "make_qmri_cohort", "make_subject"]

# Bumped whenever the same seed no longer gives the same bytes.
_VERSION = 1


def cohort_qmri(
    out: str,
    subjects: int | None = None,
    seed: int = 0,
    spacing: float = 1.0,
    jobs: int | None = None,
    *,
    label_maps: str | None = None,
    whole_heads: bool = False,
    lesions: str | None = None,
) -> None:
    """Write the embedded qMRI cohort and say what was written; the command ``cohort qmri``.

    Args:
        out: Folder to write; made where missing, continued where an earlier run was interrupted.
        subjects: How many subjects, healthy and stroke interleaved; by default 51, or one for each label map.
        seed: The same seed gives the same bytes.
        spacing: Voxel size [mm].
        jobs: Subjects made at once; by default one per core, at most 4.
        label_maps: See `make_qmri_cohort`.
        whole_heads: Likewise.
        lesions: Likewise.
    """
    brain_grid(spacing)
    if subjects is None:
        subjects = len(find_label_maps(label_maps)) if label_maps else 51
    size = subjects * (45.0 if whole_heads else 17.0) / spacing**3
    tqdm.write(f"Simulating {subjects} subjects at {spacing:g} mm, seed {seed}, into {out} (about {size:.0f} MB)")
    path = make_qmri_cohort(
        out, subjects, seed, spacing, label_maps=label_maps, whole_heads=whole_heads, lesions=lesions, jobs=jobs
    )
    what = f"maps in sub-*/anat, groups in {path / 'participants.tsv'}"
    finish_cohort(path, "qmri", what, jobs=jobs)


def make_qmri_cohort(
    out: str | Path,
    subjects: int = 51,
    seed: int = 0,
    spacing: float = 1.0,
    *,
    stroke_fraction: float = 29 / 51,
    label_maps: str | Path | None = None,
    whole_heads: bool = False,
    lesions: str | Path | None = None,
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
        label_maps: Folder of label maps of people's heads, see `scripts.cohort.label_maps`, instead of the template's
            one anatomy. Subject n is made of person (n - 1) modulo the number of maps; its first head is nearly the
            person, the next ones are deformed. Without ``lesions`` nobody has one.
        whole_heads: Whether the maps hold the whole head of a label map, not the brain alone.
        lesions: Folder of masks of lesions in MNI space, for heads from label maps.
        jobs: Subjects made at once; by default one per core, at most 4 (each needs up to 0.8 GB at
            1 mm, 1.1 GB for a whole head).
        progress: Whether to show a bar.

    Raises:
        InputError: If a setting is out of range, or ``out`` holds something else, a cohort made with other
            settings, or more subjects than asked for.
    """
    root = Path(out)
    grid = brain_grid(spacing)
    source = find_source(label_maps, whole_heads=whole_heads, lesions=lesions)
    if source and not source.lesions:
        stroke_fraction = 0.0
    settings = _check_settings(subjects, seed, spacing, stroke_fraction, jobs)
    settings |= source.settings if source else {}
    claim(root, settings)
    held = sum(path.is_dir() for path in root.glob("sub-*"))
    if held > subjects:
        raise InputError(f"{root} holds {held} subjects and {subjects} were asked for: choose another --out")
    people = [draw_person(number, seed, stroke_fraction) for number in range(1, subjects + 1)]
    missing = [person for person in people if not (root / person.name).is_dir()]

    def make(person: Person) -> None:
        if source:
            make_label_subject(root, person, seed, spacing, source)
        else:
            make_subject(root, person, seed, grid)

    make_all(
        people,
        missing,
        make,
        spacing=spacing,
        jobs=jobs,
        progress=progress,
        from_template=source is None,
    )
    participants = [_participant(root, person, source) for person in people]
    describe_dataset(root, participants, settings, source.readme if source else README)
    return root


def make_subject(root: Path, person: Person, seed: int, grid: Grid) -> None:
    """Make one subject and write it below ``root``, whole or not at all."""
    anatomy, lesion, hyperintensity = make_brain(person, seed, grid)
    values = draw_values(stream(seed, person.number, "tissue"))
    maps = paint_maps(
        anatomy, values, stream(seed, person.number, "noise"), lesion=lesion, hyperintensity=hyperintensity
    )
    mask = None if lesion is None else lesion.mask
    labels = segment(anatomy, lesion)
    write_subject(root, person.name, grid, lambda values: anatomy.volume(values, values.dtype.type), maps, labels, mask)


def _participant(root: Path, person: Person, source: LabelSource | None) -> dict[str, str]:
    volume = "0"
    if person.lesion:
        sidecar = root / person.name / "anat" / f"{person.name}_{LESION_SUFFIX}.json"
        volume = f"{json.loads(sidecar.read_text())['LesionVolume']:g}"
    row = {"participant_id": person.name, "group": person.group}
    if source:
        return {**row, "lesion_volume": volume, "person": source.person(person.number)}
    return {**row, "sex": person.sex, "age": str(person.age), "lesion_volume": volume}


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
