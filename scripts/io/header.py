"""Where and how large a volume is, whatever the kind of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from scripts.errors import InputError

__all__ = ["ImageHeader", "check_same_grid", "place_at"]


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
