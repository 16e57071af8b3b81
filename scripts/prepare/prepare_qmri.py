"""Quantitative maps of one's own, from hMRI-toolbox results, BIDS or published files to what the bundles read."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from tqdm import tqdm

from scripts.data.units import check_settings
from scripts.errors import InputError
from scripts.io.read import read_header
from scripts.prepare.preparation import Summary, prepare_subjects, print_summary, training
from scripts.prepare.qmri_scan import prepare_scan
from scripts.prepare.qmri_sources import Scan, find_scans
from scripts.prepare.qmri_write import describe_source, write_participants, write_scan
from scripts.prepare.records import Record, claim_output, finish_subject, is_finished, part_folder, read_record
from scripts.prepare.space import require_space
from scripts.tasks import bundles_on

__all__ = ["prepare_qmri"]

_VERSION = 1
_MASKS = ("auto", "make")
_BYTES_A_VOXEL = 4  # five maps of two bytes, four fifths of them 0 or compressed away, and a picture


def prepare_qmri(
    source: str,
    out: str,
    *,
    units: Mapping[str, str] | None = None,
    mask: str = "auto",
    spacing: float | None = None,
    jobs: int | None = None,
) -> Summary:
    """Prepare quantitative maps for the bundle pretrain_seqinv and say what was done; the command ``prepare qmri``.

    Units are told by the values, failed fits are filled, maps that lack are made; see
    `scripts.prepare.qmri_scan`. Subjects appear whole; the same command goes on where it stopped and makes
    what is new or changed.

    Args:
        source: folder with hMRI-toolbox results, BIDS maps, or the published ``masked_*`` maps, at any depth.
        out: folder for the result, a BIDS derivative.
        units: what the files hold where that should not be guessed, e.g. ``{"r1": "1e-3/s"}``.
        mask: ``auto`` takes a mask beside the maps, or the maps' own, or finds the brain; ``make`` finds it;
            anything else is a glob of masks, relative to the folder that holds a scan's maps.
        spacing: side of the voxels wanted [mm]; default: as they are.
        jobs: subjects made at once; default: one per core, at most 8.

    Raises:
        InputError: for settings or folders that do not fit, or too little space; before any work.
    """
    started = time.monotonic()
    folder = Path(source)
    settings = check_settings(units or "auto")
    spacing = _check_spacing(spacing)
    if not isinstance(mask, str) or not mask:
        raise InputError(f"mask is {mask!r}: choose auto, make, or a pattern such as 'mask*.nii.gz'")
    made_with = {
        "dataset": "qmri",
        "version": _VERSION,
        "units": {name: unit for name, unit in settings.items() if unit != "auto"},
        "mask": mask,
        "spacing": spacing,
    }
    root = claim_output(out, folder, made_with)
    subjects = find_scans(folder, mask=None if mask in _MASKS else mask)
    tasks = {name: _inputs(scans, folder) for name, scans in subjects.items()}
    missing = [name for name in tasks if not is_finished(root, name, tasks[name])]
    needed = sum(_size(scan, spacing) for name in missing for scan in subjects[name])
    require_space(root, needed, "the prepared maps")
    n_scans = sum(len(scans) for scans in subjects.values())
    tqdm.write(f"Quantitative maps in {folder}: {len(subjects)} subjects, {n_scans} scans; into {root}")
    work = partial(
        _make_subject,
        source=folder,
        root=root,
        subjects=subjects,
        settings=settings,
        make_mask=mask == "make",
        spacing=spacing,
    )
    describe_source(root, folder, _VERSION)
    write_participants(root, folder, subjects)  # the quality page tells the groups; who failed is taken out at the end
    summary = prepare_subjects(root, "qmri", tasks, work, jobs=jobs)
    _finish(root, folder, subjects, tasks, missing)
    print_summary(
        summary, started, [training(bundle, root) for bundle in bundles_on("qmri")] if summary.subjects else []
    )
    return summary


def _make_subject(
    name: str,
    *,
    source: Path,
    root: Path,
    subjects: Mapping[str, Sequence[Scan]],
    settings: Mapping[str, str],
    make_mask: bool,
    spacing: float | None,
) -> None:
    """Prepare all scans of one subject, or none."""
    shutil.rmtree(root / name, ignore_errors=True)  # what a killed run, or one before the source changed, left
    for scan in subjects[name]:
        if scan.problem:
            raise InputError(scan.problem)
    part = part_folder(root, name)
    files: list[str] = []
    about: list[str] = []
    notes: list[str] = []
    measures: dict[str, float] = {}
    for scan in subjects[name]:
        done = prepare_scan(scan, source, settings, make_mask=make_mask, spacing=spacing)
        files += write_scan(part, scan, done)
        said = f"{scan.session}: " if scan.session else ""
        about += [f"{said}{line}" for line in done.about]
        notes += [f"{said}{note}" for note in done.notes]
        measures[f"{said}failed fits [%]"] = round(100 * done.failed, 3)
    record = Record(_inputs(subjects[name], source), files, notes, about, measures)
    finish_subject(root, "qmri", name, part, record)


def _inputs(scans: Sequence[Scan], source: Path) -> dict[str, int]:
    """Return name and size [bytes] of the files of some scans, their sidecars with them."""
    paths = []
    for scan in scans:
        maps = [one.path for one in scan.maps.values()]
        sidecars = [path.with_name(f"{path.name.split('.nii')[0]}.json") for path in maps]
        paths += [*maps, *(path for path in sidecars if path.is_file()), *([scan.mask] if scan.mask else [])]
    return {path.relative_to(source).as_posix(): path.stat().st_size for path in paths}


def _size(scan: Scan, spacing: float | None) -> int:
    """Return about how many bytes the prepared maps of a scan take; 0 if that cannot be told."""
    try:
        header = read_header(scan.maps["r1"].path)
    except (InputError, KeyError):
        return 0
    finer = np.prod([side / spacing for side in voxel_sizes(header.affine)]) if spacing else 1.0
    return round(float(np.prod(header.shape)) * float(finer) * _BYTES_A_VOXEL)


def _finish(
    root: Path,
    source: Path,
    subjects: Mapping[str, Sequence[Scan]],
    tasks: Mapping[str, Mapping[str, int]],
    made: Sequence[str],
) -> None:
    """Write the table of participants and say of each subject that was made what was taken it for."""
    finished = {name: scans for name, scans in subjects.items() if is_finished(root, name, tasks[name])}
    write_participants(root, source, finished)
    for name in made:
        record = read_record(root, name)
        for note in [*record.about, *record.notes] if record else ():
            tqdm.write(f"{name}: {note}")


def _check_spacing(spacing: float | None) -> float | None:
    if spacing is None:
        return None
    if isinstance(spacing, bool) or not isinstance(spacing, int | float) or not 0.4 <= spacing <= 8:
        raise InputError(f"spacing is {spacing!r}: give the side of a voxel, 0.4 to 8 mm, or leave it out")
    return float(spacing)
