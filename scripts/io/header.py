"""Where and how large a volume is, whatever the kind of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.errors import InputError

__all__ = ["HEAD_SIDES", "MOST_PACKED", "ImageHeader", "check_head_size", "check_same_grid", "place_at"]

HEAD_SIDES = (60.0, 400.0)
"""How long an image of a head may be along each of its axes [mm]."""
MOST_PACKED = 1032
"""Bytes that one byte of a compressed file can hold at most, by the format of deflate."""


@dataclass(frozen=True)
class ImageHeader:
    """Where and how large a volume is.

    Attributes:
        path: its file, or the folder of its DICOM series.
        shape: voxels, (3,).
        affine: voxel to RAS+ world (4, 4) [mm].
        place: a NIfTI header, 348 or 540 bytes, that says this and nothing else: sform, qform, codes and units.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    place: bytes


def place_at(affine: np.ndarray) -> bytes:
    """Return the `ImageHeader.place` of a file that is no NIfTI file: sform and qform of code 1 (scanner), in mm."""
    header = nib.Nifti1Header()
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")
    return bytes(header.binaryblock)


def check_same_grid(first: ImageHeader, other: ImageHeader) -> None:
    """Make sure that two volumes have one shape and one place, to a tenth of the smallest voxel side.

    Raises:
        InputError: naming both files and what differs.
    """
    if first.shape != other.shape:
        raise InputError(
            f"{other.path} has shape {other.shape}, but {first.path.name} has {first.shape}: "
            "bring the volumes of one subject to one grid"
        )
    ends = np.array([(i, j, k, 1) for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    ends[:, :3] *= np.array(first.shape) - 1
    shift = float(np.linalg.norm(ends @ (first.affine - other.affine).T, axis=1).max())
    if shift > 0.1 * float(np.linalg.norm(first.affine[:3, :3], axis=0).min()):
        raise InputError(
            f"{other.path} has another affine than {first.path.name} (corners up to {shift:.3g} mm apart): "
            "register or reslice the volumes of one subject to one grid"
        )


def check_head_size(header: ImageHeader) -> None:
    """Make sure that an image is as large as one of a head or a brain is: its header may be wrong where it is not.

    Raises:
        InputError: it is shorter or longer than `HEAD_SIDES` along an axis.
    """
    spacing = np.linalg.norm(header.affine[:3, :3], axis=0)
    sides = spacing * header.shape
    low, high = HEAD_SIDES
    if sides.min() >= low * (1 - 1e-6) and sides.max() <= high * (1 + 1e-6):
        return
    voxels, each, whole = (" x ".join(f"{value:.4g}" for value in values) for values in (header.shape, spacing, sides))
    raise InputError(
        f"{header.path} is {whole} mm large by its header ({voxels} voxels of {each} mm), but a head has {low:g} to "
        f"{high:g} mm on each side: mend the header, or type --any_size true to take the image all the same"
    )
