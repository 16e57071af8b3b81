"""The embedded ARC cohort: simulated heads with chronic stroke lesions, as BIDS laid out like ds004884."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from scripts.cohort import readmes
from scripts.cohort.finish import finish_cohort
from scripts.cohort.head import head_grid
from scripts.cohort.label_cohort import LabelSource, find_source, write_people
from scripts.cohort.label_scanned import scan_head
from scripts.cohort.lattice import stream
from scripts.cohort.make import check_numbers, check_spacing, claim, make_all
from scripts.cohort.person import draw_person
from scripts.cohort.scanner import InScanner, Sequence3D, View, acquire, make_head, reslice, write_image
from scripts.errors import InputError
from scripts.io.write import write_json, write_text

__all__ = ["SEQUENCES", "cohort_arc", "make_arc_cohort"]

_VERSION = 1
_NUMBERS = 20_000  # no subject of another embedded cohort has a number from here on
_FIELD = 3.0  # T
_BIAS, _NOISE = 0.16, 0.03

SEQUENCES = {
    "T1w": Sequence3D(
        "mprage",
        {"tr": 2.25, "ti": 0.925, "tx": 8.0e-3, "te": 4.15e-3, "flip_angle": 9.0, "n": 160, "efficiency": 0.96},
    ),
    "T2w": Sequence3D("fse", {"te": 0.105, "tr": 3.2}),
    "FLAIR": Sequence3D("flair", {"te": 0.11, "tr": 5.0, "ti": 1.8}),
}
"""Protocols of ds004884 (3 T); the effective echo times stand for the variable refocusing angles of SPACE."""

_FILES = {"T1w": "acq-tfl3_run-4_T1w", "T2w": "acq-spc3_run-3_T2w", "FLAIR": "acq-spcir2p2_run-6_FLAIR"}


def cohort_arc(
    out: str,
    subjects: int = 30,
    seed: int = 0,
    spacing: float | None = None,
    jobs: int | None = None,
    label_maps: str | None = None,
    lesions: str | None = None,
) -> None:
    """Write the embedded ARC cohort and say what was written; the command ``cohort arc``. See `make_arc_cohort`."""
    check_spacing(spacing)
    size = subjects * (45.0 if spacing is None else 45.0 / spacing**3)
    tqdm.write(
        f"Simulating heads of {subjects} stroke subjects at {spacing or 1.0:g} mm, seed {seed}, into {out} "
        f"(about {size:.0f} MB)"
    )
    path = make_arc_cohort(out, subjects, seed=seed, spacing=spacing, label_maps=label_maps, lesions=lesions, jobs=jobs)
    what = "images in sub-*/ses-*/anat, masks in derivatives/lesion_masks"
    finish_cohort(path, "arc", what, jobs=jobs)


def make_arc_cohort(
    out: str | Path,
    subjects: int = 30,
    *,
    seed: int = 0,
    spacing: float | None = None,
    label_maps: str | Path | None = None,
    lesions: str | Path | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Path:
    """Write simulated heads with stroke lesions as BIDS like ds004884 and return the dataset's folder.

    All have a T2w, eight of nine a T1w, three of eight a FLAIR, and one of five a second session without a
    mask. A subject's mask appears last, so that a killed run leaves no half subject that counts; the same call
    continues it. A subject does not depend on how many there are, nor on ``jobs``.

    Args:
        out: folder to write.
        subjects: how many, 1 to 999.
        seed: of everything random.
        spacing: isotropic voxels [mm], 0.9 to 8; None takes 1 mm (FLAIR 0.9 mm).
        label_maps: folder of label maps of whole heads, instead of the template's one anatomy; ``participants.tsv``
            then tells whose head each subject is.
        lesions: folder of masks of lesions in MNI space, for heads from label maps.
        jobs: subjects made at once; by default one per core, at most 4.
        progress: whether to show a bar.

    Raises:
        InputError: if a setting is out of range, or ``out`` holds something else, or more subjects.
    """
    check_numbers(seed, jobs, subjects=subjects)
    if subjects < 1:
        raise InputError("subjects is 0: choose a whole number from 1 to 999")
    spacing = check_spacing(spacing)
    root = Path(out)
    if label_maps and not lesions:
        raise InputError("label_maps without lesions: give a folder of lesion masks in MNI space as well")
    source = find_source(label_maps, whole_heads=bool(label_maps), lesions=lesions)
    settings = {"cohort": "arc", "version": _VERSION, "seed": int(seed), "spacing": spacing}
    claim(root, settings if source is None else settings | source.settings)
    held = sum(path.is_dir() for path in root.glob("sub-*"))
    if held > subjects:
        raise InputError(f"{root} holds {held} subjects and {subjects} were asked for: choose another --out")
    numbers = list(range(1, subjects + 1))
    missing = [number for number in numbers if not (root / _mask_path(number)).is_file()]
    make_all(
        numbers,
        missing,
        lambda number: _make_subject(root, number, seed, spacing, source),
        spacing=spacing or 1.0,
        jobs=jobs,
        progress=progress,
        from_template=source is None,
    )
    _describe(root, numbers, seed, source)
    return root


def _session(number: int) -> str:
    return f"ses-{1200 + 7 * number % 800}"


def _stem(number: int, session: str, modality: str) -> str:
    return f"sub-M{2000 + number}_{session}_{_FILES[modality]}"


def _anat(number: int, session: str) -> Path:
    return Path(f"sub-M{2000 + number}") / session / "anat"


def _mask_path(number: int) -> Path:
    session = _session(number)
    name = f"{_stem(number, session, 'T2w')}_desc-lesion_mask.nii.gz"
    return Path("derivatives") / "lesion_masks" / _anat(number, session) / name


def _modalities(number: int) -> list[str]:
    """Return what the session with the mask holds: a fixed pattern, so that small cohorts have some of each."""
    held = ["T2w"]
    if number % 9 != 4:
        held.append("T1w")
    if number % 8 in (2, 5, 7):
        held.append("FLAIR")
    return held


def _view(modality: str, spacing: float | None, rng: np.random.Generator) -> View:
    tilt, shift = rng.normal(0.0, 2.5, 3), rng.normal(0.0, 2.5, 3)
    fov = {"T1w": ((176, 256, 256), 1.0), "T2w": ((176, 256, 256), 1.0), "FLAIR": ((208, 272, 272), 0.9)}
    shape, side = fov[modality]
    view = View(
        "LAS" if modality == "T1w" else "RAS",
        shape,
        (side, side, side),
        (shift[0], -22.0 + shift[1], -18.0 + shift[2]),
        (tilt[0], tilt[1], tilt[2]),
    )
    return view.at(spacing)


def _make_subject(root: Path, number: int, seed: int, spacing: float | None, source: LabelSource | None) -> None:
    """Make one subject; its mask is moved into place after its images."""
    name, session = f"sub-M{2000 + number}", _session(number)
    head: InScanner
    if source is None:
        head = make_head(draw_person(_NUMBERS + number, seed, 1.0), seed, head_grid(spacing or 1.0), _FIELD)
    else:
        head = scan_head(source, number, _NUMBERS + number, seed, spacing or 1.0, _FIELD, has_lesion=True)
    rng = stream(seed, _NUMBERS + number, "scan")
    temporary = root / f".part-{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    views = {modality: _view(modality, spacing, rng) for modality in _modalities(number)}
    for modality, view in views.items():
        _write_image(temporary, number, session, modality, head, view, rng)
    if number % 5 == 3:
        _write_image(temporary, number, f"{session}2", "T1w", head, _view("T1w", spacing, rng), rng)
    mask = temporary / _mask_path(number).name
    _write_mask(mask, number, session, head, views["T2w"])
    shutil.rmtree(root / name, ignore_errors=True)
    (temporary / name).rename(root / name)
    target = root / _mask_path(number)
    target.parent.mkdir(parents=True, exist_ok=True)
    for file in (mask.with_name(mask.name.replace(".nii.gz", ".json")), mask):
        file.replace(target.with_name(file.name))
    temporary.rmdir()


def _write_image(
    temporary: Path, number: int, session: str, modality: str, head: InScanner, view: View, rng: np.random.Generator
) -> None:
    folder = temporary / _anat(number, session)
    folder.mkdir(parents=True, exist_ok=True)
    sequence = SEQUENCES[modality]
    image = acquire(head, sequence, view, rng, bias=_BIAS, noise=_NOISE)
    stem = folder / _stem(number, session, modality)
    write_image(stem.with_name(stem.name + ".nii.gz"), image, view)
    names = {"tr": "RepetitionTime", "te": "EchoTime", "ti": "InversionTime", "flip_angle": "FlipAngle"}
    timing = {names[key]: value for key, value in sequence.protocol.items() if key in names}
    write_json(stem.with_name(stem.name + ".json"), {"MagneticFieldStrength": 3, "Description": "simulated", **timing})


def _write_mask(path: Path, number: int, session: str, head: InScanner, view: View) -> None:
    assert head.extent is not None
    mask = (reslice(head.extent[None], head.grid, view)[0] > 0.5).astype(np.uint8)
    write_image(path, mask, view)
    source = f"bids:raw:{_anat(number, session).as_posix()}/{_stem(number, session, 'T2w')}.nii.gz"
    write_json(path.with_name(path.name.replace(".nii.gz", ".json")), {"Type": "Lesion", "SpatialReference": source})


def _describe(root: Path, numbers: list[int], seed: int, source: LabelSource | None) -> None:
    """Write the files at the root of the dataset."""
    description: dict[str, Any] = {
        "Name": "Embedded ARC-like cohort (simulated)",
        "BIDSVersion": "1.6.0",
        "DatasetType": "raw",
        "License": "Apache-2.0" if source is None else "That of the label maps",
    }
    write_json(root / "dataset_description.json", description)
    if source is not None:
        write_people(root, {f"sub-M{2000 + number}": source.person(number) for number in numbers})
        write_text(root / "README", readmes.ARC_LABEL_MAPS)
        return
    people = [(number, draw_person(_NUMBERS + number, seed, 1.0)) for number in numbers]
    rows = [f"sub-M{2000 + number}\t{person.sex}\t{person.age}" for number, person in people]
    write_text(root / "participants.tsv", "\n".join(["participant_id\tsex\tage_at_stroke", *rows]) + "\n")
    write_text(root / "README", readmes.ARC)
