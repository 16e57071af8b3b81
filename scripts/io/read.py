"""Reading one 3D image of whatever kind: NIfTI, NRRD, MetaImage, or a folder with a DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from scripts.errors import InputError
from scripts.io import dicom, itk, nifti
from scripts.io.header import ImageHeader

__all__ = ["ENDINGS", "read_header", "read_image", "read_volume", "stem"]

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


def read_image(
    path: str | Path, *, nan: Literal["error", "zero"] = "error"
) -> tuple[ImageHeader, np.ndarray, np.ndarray]:
    """Return an image's header, and its voxels in RAS+ order; axes are permuted and flipped, never resampled.

    Args:
        path: see `read_header`.
        nan: what to do with voxels that are NaN or infinite: ``"error"``, or ``"zero"`` to set them to 0.

    Returns:
        The header, of the file's own order; the voxels (I, J, K), float32; their affine (4, 4) [mm].

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full; if some are NaN or infinite.
    """
    path = Path(path)
    if path.is_dir():
        header, stored = dicom.read(path)
    else:
        header, stored = itk.read(path) if _is_itk(path) else nifti.read(path)
    turn = nib.io_orientation(header.affine)
    volume = np.array(nib.apply_orientation(stored, turn), dtype=np.float32, order="C")
    affine = header.affine @ nib.orientations.inv_ornt_aff(turn, header.shape)
    bad = ~np.isfinite(volume)
    n_bad = int(bad.sum())
    if n_bad and nan == "error":
        raise InputError(f'{path} holds {n_bad} NaN or infinite voxels: mend it, or set nan="zero"')
    if n_bad:
        volume[bad] = 0
    return header, volume, np.asarray(affine, dtype=np.float64)


def read_volume(path: str | Path, *, nan: Literal["error", "zero"] = "error") -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels and the affine of `read_image`."""
    return read_image(path, nan=nan)[1:]


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
