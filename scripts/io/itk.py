"""Reading NRRD and MetaImage files through SimpleITK, placed as NIfTI places them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.header import ImageHeader, place_at

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
            singular matrix.
    """
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:].upper()}: copy or export it again") from error
    return _describe(path, reader, reader.GetNumberOfComponents())


def read(path: Path) -> tuple[ImageHeader, np.ndarray]:
    """Return the header of a 3D file, and its voxels (I, J, K) in their own order and type.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full.
    """
    try:
        image = _reader(path).Execute()
    except RuntimeError as error:
        read_header(path)
        raise InputError(f"{path} is cut off or damaged: copy it again") from error
    header = _describe(path, image, image.GetNumberOfComponentsPerPixel())
    return header, np.asarray(simple_itk().GetArrayFromImage(image).transpose())


def _reader(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} does not exist: correct the path or restore the file")
    reader = simple_itk().ImageFileReader()
    reader.SetFileName(str(path))
    return reader


def _describe(path: Path, image: Any, n_components: int) -> ImageHeader:
    """Return what SimpleITK tells of an image, or of a file that it read the header of, after checking it."""
    shape = tuple(int(n) for n in image.GetSize())
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path} is {len(shape)}D with shape {shape}: give one 3D volume")
    kind = simple_itk().GetPixelIDValueAsString(image.GetPixelID())
    if n_components != 1 or "complex" in kind:
        raise InputError(f"{path} holds voxels of the kind '{kind}': give one real number per voxel")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has no proper voxel spacing and directions: export it again")
    affine = _TO_RAS @ affine
    return ImageHeader(path, shape, affine, place_at(affine))
