"""One subject of IXI: its images as they are, with maps of grey matter, white matter and CSF for each.

Maps that SPM made of an image are taken. Otherwise the T1 is corrected for its bias field, its brain extracted
and classified (`scripts.prepare.tissue_maps`), and its maps are carried to T2 and PD, which are one dual-echo
scan, by a rigid registration (`scripts.prepare.registration`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.data.ixi import TISSUE_CLASSES
from scripts.errors import InputError
from scripts.io.header import ImageHeader, check_same_grid
from scripts.io.read import read_header, read_volume
from scripts.io.resample import voxel_sizes
from scripts.io.write import write_shares
from scripts.prepare.ixi_sources import Source, Subject, only_one
from scripts.prepare.records import Record, finish_subject, hidden, part_folder
from scripts.prepare.registration import register_rigid
from scripts.prepare.tissue_maps import brain_mask, carry_maps, csf_to_white, tissue_maps

__all__ = ["make_subject"]

_THICKEST = 4.5  # mm; slices of IXI are 1.2 mm
_BRAIN = (0.6, 2.3)  # litres
_TOLERANCE = 0.02  # SPM rounds
_SURE = 0.5  # share that some voxel of each tissue has
_NUMBERS = tuple(TISSUE_CLASSES)

Array = NDArray[np.float32]


@dataclass
class _Image:
    """An image in its part folder, in RAS+ order, and its tissue maps (3, I, J, K)."""

    source: Source
    path: Path
    name: str
    header: ImageHeader
    voxels: Array
    affine: NDArray[np.float64]
    maps: Array | None = None


@dataclass
class _Work:
    part: Path
    images: dict[str, _Image] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)


def make_subject(name: str, *, root: Path, plan: Mapping[str, Subject]) -> None:
    """Prepare one subject.

    Args:
        name: of the subject.
        root: the prepared folder.
        plan: where the files of each subject lie.

    Raises:
        InputError: if a file is damaged or doubled, if maps lie on another grid than their image, if T2 and PD
            are swapped, or if brain or registration are implausible.
    """
    subject = plan[name]
    work = _Work(part_folder(root, name))
    for kind in ("T1", "T2", "PD"):
        if kind in subject.images:
            _take_image(work, name, kind, only_one(subject.images[kind]))
    if not work.images:
        raise InputError(f"{name} has no image but of thick slices ({'; '.join(work.notes)}): leave it out")
    for kind in work.images:
        if len(subject.maps.get(kind, {})) == len(_NUMBERS):
            _take_maps(work, name, kind, {number: only_one(s) for number, s in subject.maps[kind].items()})
    _make_maps(work)
    _check_contrasts(work)
    for kind, image in work.images.items():
        _write_maps(work, name, kind, image)
    work.files += [image.name for image in work.images.values()]
    record = Record(subject.inputs(), work.files, work.notes, work.about, work.measures)
    finish_subject(root, "ixi", name, work.part, record)


def _take_image(work: _Work, name: str, kind: str, source: Source) -> None:
    file = f"{name}-{kind}{source.ending}"
    path = hidden(work.part, file)
    source.copy(path)
    with _naming_sources({path: source}):
        header = read_header(path)
        voxels, affine = read_volume(path)
        if not (voxels > 0).any():
            raise InputError(f"{path} is 0 everywhere: download it again")
    thickest = max(voxel_sizes(header.affine))
    if thickest > _THICKEST:
        path.unlink()
        work.notes.append(f"{kind} left out: {min(header.shape)} slices of {thickest:.2g} mm")
        return
    work.images[kind] = _Image(source, path, file, header, voxels, affine)


def _take_maps(work: _Work, name: str, kind: str, sources: Mapping[int, Source]) -> None:
    """Take the maps that SPM made of an image, after a check of their grid and values."""
    image, maps = work.images[kind], []
    for number in _NUMBERS:
        source = sources[number]
        path = hidden(work.part, f"c{number}{name}-{kind}{source.ending}")
        source.copy(path)
        with _naming_sources({path: source, image.path: image.source}):
            check_same_grid(image.header, read_header(path))
            values, _ = read_volume(path, nan="zero")
            if values.min() < -_TOLERANCE or values.max() > 1 + _TOLERANCE:
                reach = f"{values.min():.3g} to {values.max():.3g}"
                raise InputError(f"{path} holds values from {reach}: give SPM's probabilities, from 0 to 1")
            if values.max() < _SURE:
                raise InputError(f"{path} marks no {TISSUE_CLASSES[number]}: segment the image anew")
        path.unlink()
        maps.append(values.clip(0, 1))
    image.maps = np.stack(maps)
    work.about.append(f"{kind}: maps of SPM")


def _make_maps(work: _Work) -> None:
    """Make the maps that are not there: of the T1 by classification, of T2 and PD by carrying those of the T1."""
    first, source = work.images.get("T1"), None
    if first is not None and first.maps is None:
        with _naming_sources({first.path: first.source}):
            brain = brain_mask(first.voxels, first.affine)
            litres = float(brain.sum()) * abs(float(np.linalg.det(first.affine[:3, :3]))) / 1e6
            if not _BRAIN[0] <= litres <= _BRAIN[1]:
                raise InputError(
                    f"{first.path}: the brain found has {litres:.2f} l: give maps of your own with --labels"
                )
            first.maps = tissue_maps(first.voxels, first.affine, brain)
        work.about.append("T1: maps made by brain extraction and HMRF")
    for kind in ("T2", "PD"):
        image = work.images.get(kind)
        if image is None or image.maps is not None:
            continue
        if source is not None and source.maps is not None and _is_same_grid(source, image):
            image.maps = source.maps
        else:
            _carry(work, kind, image)
        source = image


def _carry(work: _Work, kind: str, image: _Image) -> None:
    first = work.images.get("T1")
    if first is None or first.maps is None:
        raise InputError(f"{image.source} has no tissue maps and there is no T1 to make them of: add one")
    rigid = register_rigid(
        first.voxels, first.affine, image.voxels, image.affine, name=f"{first.source} to {image.source}"
    )
    image.maps = carry_maps(first.maps, first.affine, rigid, image.affine, image.voxels.shape)
    work.about.append(f"{kind}: maps carried from the T1 ({rigid.angle:.1f} degrees, {rigid.shift:.1f} mm)")
    work.measures[f"T1 to {kind}, turned [deg]"] = round(rigid.angle, 2)
    work.measures[f"T1 to {kind}, moved [mm]"] = round(rigid.shift, 2)


def _is_same_grid(first: _Image, other: _Image) -> bool:
    try:
        check_same_grid(first.header, other.header)
    except InputError:
        return False
    return True


def _check_contrasts(work: _Work) -> None:
    """Tell T2 and PD that were swapped by how bright fluid is."""
    ratios = {}
    for kind in ("T2", "PD"):
        image = work.images.get(kind)
        if image is not None and image.maps is not None:
            with _naming_sources({image.path: image.source}):
                ratios[kind] = csf_to_white(image.voxels, image.maps)
    if len(ratios) == 2 and ratios["T2"] < ratios["PD"]:
        raise InputError(
            f"{work.images['T2'].source} and {work.images['PD'].source} look swapped (CSF is {ratios['T2']:.2g} and "
            f"{ratios['PD']:.2g} times as bright as white matter): exchange their names"
        )


def _write_maps(work: _Work, name: str, kind: str, image: _Image) -> None:
    assert image.maps is not None
    for number, shares in zip(_NUMBERS, image.maps, strict=True):
        file = f"c{number}{name}-{kind}.nii.gz"
        write_shares(hidden(work.part, file), shares, image.path)
        work.files.append(file)


@contextmanager
def _naming_sources(paths: Mapping[Path, Source]) -> Iterator[None]:
    """Let errors name the user's files, not our copies of them; where none is named, the first."""
    try:
        yield
    except InputError as error:
        message = str(error)
        for path, source in paths.items():
            message = message.replace(str(path), str(source)).replace(path.name, source.name)
        if not any(source.name in message for source in paths.values()):
            message = f"{next(iter(paths.values()))}: {message}"
        raise InputError(message) from error
