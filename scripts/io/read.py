"""Reading one 3D image of whatever kind: NIfTI, NRRD, MetaImage, or a folder with a DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io import dicom, itk, nifti
from scripts.io.header import ImageHeader

__all__ = ["ENDINGS", "read_header", "read_stored", "read_volume", "stem"]

ENDINGS = (".nii", ".nii.gz", *itk.ENDINGS)
"""Of the files that hold one image each."""


def stem(path: str | Path) -> str:
    """Return the name of an image without its ending; of a DICOM series, that of its folder."""
    name = Path(path).name
    ending = next((end for end in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def read_header(path: str | Path) -> ImageHeader:
    """Return where and how large an image is, without reading its voxels.

    Args:
        path: a file with one of `ENDINGS`, or a folder with one DICOM series.

    Raises:
        InputError: see `scripts.io.nifti.read_header`, `scripts.io.itk.read_header` and
            `scripts.io.dicom.find_series`.
    """
    path = Path(path)
    if path.is_dir():
        return dicom.read_header(path)
    return itk.read_header(path) if _is_itk(path) else nifti.read_header(path)


def read_stored(
    path: str | Path, *, nan: Literal["error", "zero"] = "error"
) -> tuple[ImageHeader, NDArray[np.float32]]:
    """Return the header of an image, and its voxels (I, J, K) as float32 in the order of the file.

    Args:
        path: see `read_header`.
        nan: what to do with voxels that are NaN or infinite: ``"error"``, or ``"zero"`` to set them to 0.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full; if some are NaN or infinite.
    """
    path = Path(path)
    if path.is_dir():
        header, stored = dicom.read(path)
    else:
        header, stored = itk.read(path) if _is_itk(path) else nifti.read(path)
    voxels = np.asarray(stored, dtype=np.float32)
    bad = ~np.isfinite(voxels)
    n_bad = int(bad.sum())
    if n_bad and nan == "error":
        raise InputError(f'{path} holds {n_bad} NaN or infinite voxels: mend it, or set nan="zero"')
    return header, np.where(bad, np.float32(0), voxels) if n_bad else voxels


def read_volume(path: str | Path, *, nan: Literal["error", "zero"] = "error") -> tuple[np.ndarray, np.ndarray]:
    """Return an image in RAS+ order; axes are permuted and flipped, never resampled.

    Args:
        path: see `read_header`.
        nan: see `read_stored`.

    Returns:
        Voxels (I, J, K), float32, and their affine (4, 4) [mm].

    Raises:
        InputError: see `read_stored`.
    """
    header, stored = read_stored(path, nan=nan)
    turn = nib.io_orientation(header.affine)
    affine = header.affine @ nib.orientations.inv_ornt_aff(turn, header.shape)
    return np.array(nib.apply_orientation(stored, turn), order="C"), np.asarray(affine, dtype=np.float64)


def _is_itk(path: Path) -> bool:
    """Return whether SimpleITK reads a file, nibabel otherwise.

    Raises:
        InputError: neither does.
    """
    name = path.name.lower()
    if name.endswith(itk.ENDINGS):
        return True
    if path.is_file() and not name.endswith(ENDINGS):
        if dicom.is_dicom(path):
            raise InputError(f"{path} is one DICOM file: give the folder of its series")
        raise InputError(
            f"{path} is no image that can be read ({', '.join(ENDINGS)}, or a folder with a DICOM series): convert it"
        )
    return False
