"""Reading NRRD and MetaImage files through SimpleITK, placed as NIfTI places them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.nifti import NiftiHeader

__all__ = ["ENDINGS", "read_header", "read_voxels", "simple_itk"]

ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def simple_itk() -> Any:
    """Return SimpleITK, which then keeps what it would write to the terminal to itself."""
    import SimpleITK as sitk  # noqa: N813 - the name that its own pages use

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    return sitk


def read_header(path: Path) -> NiftiHeader:
    """Return the header of a 3D file, its affine from voxels to RAS+ world coordinates [mm].

    Raises:
        InputError: if the file is missing, unreadable, not 3D, not of one real number per voxel, or placed by a
            singular matrix.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: correct the path or restore the file")
    sitk = simple_itk()
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as {path.suffix[1:].upper()}: copy or export it again") from error
    shape = tuple(int(n) for n in reader.GetSize())
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path} is {len(shape)}D with shape {shape}: give one 3D volume")
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in kind:
        raise InputError(f"{path} holds voxels of the kind '{kind}': give one real number per voxel")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) @ np.diag(reader.GetSpacing())
    affine[:3, 3] = reader.GetOrigin()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has no proper voxel spacing and directions: export it again")
    return NiftiHeader(path, shape, _TO_RAS @ affine)


def read_voxels(path: Path) -> np.ndarray:
    """Return the voxels (I, J, K) of a file in their own order and type.

    Raises:
        InputError: if they cannot be read in full.
    """
    sitk = simple_itk()
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"{path} is cut off or damaged: copy it again") from error
    return np.asarray(sitk.GetArrayFromImage(image).transpose())
