"""Reading one 3D image of whatever kind: NIfTI, NRRD, MetaImage, or DICOM."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io import dicom, itk, nifti
from scripts.io.fetched import check_fetched
from scripts.io.header import ImageHeader

__all__ = ["ENDINGS", "LARGEST", "read_header", "read_stored", "read_volume", "stem"]

ENDINGS = (".nii", ".nii.gz", *itk.ENDINGS)
"""Of the files that hold one image each."""
LARGEST = 1e15
"""What an image's largest value may be, and one over it: float32 holds the sum of the squares of all voxels."""


def stem(path: str | Path) -> str:
    """Return the name of an image without its ending; of a DICOM series, that of its folder."""
    name = Path(path).name
    endings = sorted((*ENDINGS, *dicom.ENDINGS), key=len, reverse=True)
    ending = next((end for end in endings if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def read_header(path: str | Path) -> ImageHeader:
    """Return where and how large an image is, without reading its voxels.

    Args:
        path: a file with one of `ENDINGS`, a folder with one DICOM series, or an enhanced DICOM file.

    Raises:
        InputError: see `scripts.io.nifti.read_header`, `scripts.io.itk.read_header` and
            `scripts.io.dicom.find_series`.
    """
    path = Path(path)
    return _reader(path).read_header(path)


def read_stored(
    path: str | Path, *, nan: Literal["error", "zero"] = "error"
) -> tuple[ImageHeader, NDArray[np.float32]]:
    """Return the header of an image, and its voxels (I, J, K) as float32 in the order of the file.

    Args:
        path: see `read_header`.
        nan: what to do with voxels that are NaN or infinite: ``"error"``, or ``"zero"`` to set them to 0.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full; if some are NaN or infinite; if the largest
            is above `LARGEST` or below its inverse.
    """
    path = Path(path)
    header, stored = _reader(path).read(path)
    bad = ~np.isfinite(stored)
    n_bad = int(bad.sum())
    if n_bad and nan == "error":
        raise InputError(
            f"{path} holds {n_bad} NaN or infinite voxels: mend it, or, where there is that option, "
            'set them to 0 by --nan zero (nan="zero" in Python)'
        )
    finite = np.where(bad, stored.dtype.type(0), stored) if n_bad else stored
    _check_range(path, finite)
    return header, finite.astype(np.float32, copy=False)


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


def _check_range(path: Path, values: np.ndarray) -> None:
    """Refuse an image whose mean square float32 cannot hold, its values being too large or, all of them, too small."""
    peak = max(abs(float(values.max())), abs(float(values.min())))
    if peak > LARGEST or 0 < peak < 1 / LARGEST:
        raise InputError(
            f"{path} holds values up to {peak:.3g}: scale it, so that they lie between {1 / LARGEST:g} and {LARGEST:g}"
        )


def _reader(path: Path) -> ModuleType:
    """Return the module that reads an image: SimpleITK reads some kinds, nibabel others.

    Raises:
        InputError: none does.
    """
    name = path.name.lower()
    if path.is_dir():
        return dicom
    if name.endswith(itk.ENDINGS):
        return itk
    if not name.endswith(ENDINGS):
        check_fetched(path)
        if not dicom.is_dicom(path):
            raise InputError(
                f"{path} is no image that can be read ({', '.join(ENDINGS)}, or a folder with a DICOM series): "
                "convert it"
            )
        if not dicom.has_frames(path):
            raise InputError(f"{path} is one DICOM file: give the folder of its series")
        return dicom
    return nifti
