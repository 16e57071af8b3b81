"""Reading one 3D image of whatever kind: NIfTI, NRRD, MetaImage, or a folder with a DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from scripts.errors import InputError
from scripts.io import dicom, itk, nifti
from scripts.io.nifti import NiftiHeader

__all__ = ["ENDINGS", "NIFTI", "is_nifti", "read_header", "read_volume", "stem"]

NIFTI = (".nii", ".nii.gz")
ENDINGS = (*NIFTI, *itk.ENDINGS)
"""Of the files that hold one image each."""


def is_nifti(path: str | Path) -> bool:
    """Return whether a file is a NIfTI file by its name."""
    return Path(path).name.lower().endswith(NIFTI)


def stem(path: str | Path) -> str:
    """Return the name of an image without its ending; of a DICOM series, that of its folder."""
    name = Path(path).name
    ending = next((end for end in sorted(ENDINGS, key=len, reverse=True) if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def read_header(path: str | Path) -> NiftiHeader:
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
    if path.name.lower().endswith(itk.ENDINGS):
        return itk.read_header(path)
    if path.is_file() and dicom.is_dicom(path):
        raise InputError(f"{path} is one DICOM file: give the folder of its series")
    if path.is_file() and not is_nifti(path):
        raise InputError(
            f"{path} is no image that can be read ({', '.join(ENDINGS)}, or a folder with a DICOM series): convert it"
        )
    return nifti.read_header(path)


def read_volume(path: str | Path, *, nan: Literal["error", "zero"] = "error") -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels (I, J, K) of an image as float32 in RAS+ order, and their affine (4, 4) [mm].

    Args:
        path: see `read_header`.
        nan: what to do with voxels that are NaN or infinite: ``"error"``, or ``"zero"`` to set them to 0.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full; if some are NaN or infinite.
    """
    path = Path(path)
    header = read_header(path)
    if path.is_dir():
        stored = dicom.read_voxels(path)
    elif path.name.lower().endswith(itk.ENDINGS):
        stored = itk.read_voxels(path)
    else:
        return nifti.read_volume(path, nan=nan)
    turn = nib.io_orientation(header.affine)
    volume = np.array(nib.apply_orientation(stored, turn), dtype=np.float32, order="C")
    affine = header.affine @ nib.orientations.inv_ornt_aff(turn, header.shape)
    return nifti.without_nan(volume, path, nan), np.asarray(affine, dtype=np.float64)
