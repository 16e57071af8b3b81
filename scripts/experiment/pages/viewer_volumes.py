"""Volumes made small for a page: cut to the head, of at most some million voxels, one byte a voxel, as base64."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray
from skimage.measure import block_reduce

from scripts.errors import InputError
from scripts.io.resample import voxel_sizes

__all__ = ["Packed", "differences", "load_case", "pack"]

_MOST_VOXELS = 2_000_000
"""Larger volumes, cut to the head, are shown on a coarser grid; a head at 2 mm has less than half as many."""

_MARGIN = 3  # voxels left around the head


@dataclass(frozen=True)
class Packed:
    """A volume for the page.

    Attributes:
        key: SHA-256 of its content, so that the volume of two cases is kept once.
        base64: gzipped NIfTI.
    """

    key: str
    base64: str


def load_case(paths: Mapping[str, str], *, labels: bool) -> tuple[dict[str, NDArray[Any]], NDArray[Any], str]:
    """Return the volumes of a case on one grid that is small enough to show.

    Args:
        paths: what -> NIfTI file, with at least ``image``; all on one grid.
        labels: whether all but the image are labels, of which the commonest of a block is kept; else means are.

    Returns:
        what -> (I, J, K); their common (4, 4) affine [mm]; words on a grid that was made coarser, else empty.

    Raises:
        InputError: a file is missing, is no NIfTI, or is on another grid than the image.
    """
    read = {what: _read(path) for what, path in paths.items()}
    affine = read["image"].affine
    volumes = {what: np.asarray(nifti.dataobj) for what, nifti in read.items()}
    for what, volume in volumes.items():
        if volume.shape != volumes["image"].shape:
            raise InputError(f"{paths[what]} is on another grid than {paths['image']}: evaluate this run again")
    volumes, affine = _cut(volumes, affine)
    factor = next(n for n in range(1, 100) if volumes["image"].size / n**3 <= _MOST_VOXELS)
    if factor == 1:
        return volumes, affine, ""
    sides = voxel_sizes(affine)
    for what, volume in volumes.items():
        volumes[what] = _commonest(volume, factor) if labels and what != "image" else _means(volume, factor)
    moved = affine @ np.diag([factor, factor, factor, 1.0])
    moved[:3, 3] = affine[:3, :3] @ np.full(3, (factor - 1) / 2) + affine[:3, 3]
    note = f"shown on blocks of {factor} x {factor} x {factor} voxels of {min(sides):.2g} mm"
    return volumes, moved, note


def differences(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 1 where labels differ, 0 elsewhere."""
    return np.asarray(truth != prediction, dtype=np.uint8)


def pack(volume: NDArray[Any], affine: NDArray[Any], limits: tuple[float, float] | None = None) -> Packed:
    """Return a volume as gzipped NIfTI of one byte a voxel.

    Args:
        volume: (I, J, K) labels of 0 to 255, or intensities.
        affine: (4, 4) voxel to world [mm].
        limits: intensities of the lowest and the highest of 256 levels, which the header's slope brings back; None
            for labels.
    """
    if limits is None:
        nifti = nib.Nifti1Image(np.asarray(volume, dtype=np.uint8), affine)
    else:
        low, high = limits
        slope = max(high - low, 1e-6) / 255
        levels = np.rint((np.clip(volume, low, high) - low) / slope).astype(np.uint8)
        nifti = nib.Nifti1Image(levels, affine)
        nifti.header.set_slope_inter(slope, low)
    nifti.header.set_xyzt_units("mm")
    content = gzip.compress(nifti.to_bytes(), mtime=0)
    return Packed(hashlib.sha256(content).hexdigest()[:16], base64.b64encode(content).decode("ascii"))


def _read(path: str) -> Any:
    if not Path(path).is_file():
        raise InputError(f"{path} is gone: evaluate its run again, or report without volumes")
    try:
        return nib.load(path)
    except ImageFileError as error:
        raise InputError(f"{path} is no NIfTI file: evaluate its run again ({error})") from None


def _cut(volumes: dict[str, NDArray[Any]], affine: NDArray[Any]) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """Return the volumes without the air around the head, which is darker than the mean of the image."""
    image = volumes["image"]
    where = np.nonzero(image > image.mean())
    if not len(where[0]):
        return volumes, affine
    box = tuple(slice(max(int(axis.min()) - _MARGIN, 0), int(axis.max()) + 1 + _MARGIN) for axis in where)
    moved = affine.copy()
    moved[:3, 3] = affine[:3, :3] @ [axis.start for axis in box] + affine[:3, 3]
    return {what: volume[box] for what, volume in volumes.items()}, moved


def _means(volume: NDArray[Any], factor: int) -> NDArray[Any]:
    return np.asarray(block_reduce(volume, factor, np.mean, cval=float(volume.min())))


def _commonest(volume: NDArray[Any], factor: int) -> NDArray[Any]:
    classes = [_means((volume == value).astype(np.float32), factor) for value in range(int(volume.max()) + 1)]
    return np.argmax(classes, axis=0).astype(np.uint8)
