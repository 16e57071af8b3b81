"""Reading NRRD and MetaImage files through SimpleITK, placed as NIfTI places them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.fetched import check_fetched
from scripts.io.header import MOST_PACKED, ImageHeader, place_at
from scripts.io.text_header import read_text_header

__all__ = ["ENDINGS", "read", "read_header", "simple_itk"]

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def simple_itk() -> Any:
    """Return SimpleITK, which then keeps what it would write to the terminal to itself."""
    import SimpleITK as sitk  # noqa: N813 - the name that its own pages use

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def read_header(path: Path) -> ImageHeader:
    """Return the header of a 3D file, without reading its voxels.

    Raises:
        InputError: if the file is missing, unreadable, not 3D, not of one real number per voxel, or placed by a
            singular matrix; if it says more voxels than it holds; and see `read_text_header`.
    """
    check_fetched(path)
    text = read_text_header(path)
    check_fetched(text.file)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:].upper()}: copy or export it again") from error
    header = _describe(path, reader, reader.GetNumberOfComponents(), text.fault)
    kind = simple_itk().Image([1, 1, 1], reader.GetPixelID())
    expected = math.prod(header.shape) * int(kind.GetSizeOfPixelComponent())
    if expected > text.n_bytes * (1 if text.raw else MOST_PACKED):
        raise InputError(f"{path} is cut off or damaged ({text.n_bytes} of {expected} bytes): copy it again")
    return header


def read(path: Path) -> tuple[ImageHeader, np.ndarray]:
    """Return the header of a 3D file, and its voxels (I, J, K) in their own order and type.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full.
    """
    read_header(path)
    try:
        image = _reader(path).Execute()
    except RuntimeError as error:
        raise InputError(f"{path} is cut off or damaged: copy it again") from error
    header = _describe(path, image, image.GetNumberOfComponentsPerPixel())
    return header, np.asarray(simple_itk().GetArrayFromImage(image).transpose())


def _reader(path: Path) -> Any:
    reader = simple_itk().ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    reader.SetFileName(str(path))
    return reader


def _describe(path: Path, image: Any, n_components: int, fault: str = "") -> ImageHeader:
    """Return what SimpleITK tells of an image, or of a file that it read the header of, after checking it.

    ``fault`` is what its text lacks, told once it is known to be of a volume.
    """
    shape = tuple(int(n) for n in image.GetSize())
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path} is {len(shape)}D with shape {shape}: give one 3D volume")
    kind = simple_itk().GetPixelIDValueAsString(image.GetPixelID())
    if n_components != 1 or "complex" in kind:
        raise InputError(f"{path} holds voxels of the kind '{kind}': give one real number per voxel")
    if fault:
        raise InputError(fault)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has no proper voxel spacing and directions: export it again")
    affine = _TO_RAS @ affine
    return ImageHeader(path, shape, affine, place_at(affine))
