"""Reading NIfTI volumes so that whatever is wrong with a file is told in one line that names it."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from scripts.errors import InputError

__all__ = ["NiftiHeader", "check_same_grid", "read_header", "read_volume", "without_nan"]

_UNREADABLE = (OSError, EOFError, zlib.error, ImageFileError, HeaderDataError, ValueError)


@dataclass(frozen=True)
class NiftiHeader:
    """Where and how large a volume is: path, shape in voxels, voxel-to-world matrix (4, 4) in mm."""

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray


def read_header(path: str | Path) -> NiftiHeader:
    """Return the header of a 3D NIfTI file, without reading its voxels.

    Raises:
        InputError: if the file is missing, unreadable, cut off (uncompressed files only: a cut in a .nii.gz
            shows when its voxels are read), not 3D, not of real numbers, placed by a singular affine, or not
            placed at all.
    """
    path = Path(path)
    image = _open(path)
    if not isinstance(image, nib.Nifti1Pair):
        raise InputError(f"{path} is no NIfTI file but {type(image).__name__}: convert it to .nii or .nii.gz")
    shape = tuple(int(n) for n in image.shape)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path} is {len(shape)}D with shape {shape}: give one 3D volume")
    if image.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} holds {image.get_data_dtype()} voxels: give one real number per voxel")
    affine = np.asarray(image.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has a singular affine, so no voxel spacing: write its sform or qform anew")
    if int(image.header["sform_code"]) == int(image.header["qform_code"]) == 0:
        raise InputError(f"{path} has neither sform nor qform, so no spacing and orientation: convert the scan anew")
    if path.suffix == ".nii":
        expected = int(image.dataobj.offset) + int(np.prod(shape)) * int(image.get_data_dtype().itemsize)
        if path.stat().st_size < expected:
            raise InputError(f"{path} is cut off ({path.stat().st_size} of {expected} bytes): copy it again")
    return NiftiHeader(path, shape, affine)


def read_volume(path: str | Path, *, nan: Literal["error", "zero"] = "error") -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels (I, J, K) of a 3D NIfTI file as float32 in RAS+ order, and their affine (4, 4) [mm].

    Args:
        path: a .nii or .nii.gz file, in any orientation: axes are permuted and flipped, never resampled.
        nan: what to do with voxels that are NaN or infinite: ``"error"``, or ``"zero"`` to set them to 0.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full; if some are NaN or infinite.
    """
    header = read_header(path)
    path = header.path
    try:
        stored = _read_voxels(path)
    except _UNREADABLE as error:
        raise InputError(f"{path} is cut off or damaged ({_short(error, path)}): copy it again") from error
    turn = nib.io_orientation(header.affine)
    volume = np.array(nib.apply_orientation(stored, turn), dtype=np.float32, order="C")
    affine = header.affine @ nib.orientations.inv_ornt_aff(turn, header.shape)
    return without_nan(volume, path, nan), np.asarray(affine, dtype=np.float64)


def without_nan(volume: np.ndarray, path: Path, nan: Literal["error", "zero"]) -> np.ndarray:
    """Return a volume whose NaN or infinite voxels, if there are any, were set to 0 or are refused.

    Raises:
        InputError: there are some, and ``nan`` is ``"error"``.
    """
    bad = ~np.isfinite(volume)
    n_bad = int(bad.sum())
    if n_bad and nan == "error":
        raise InputError(f'{path} holds {n_bad} NaN or infinite voxels: mend it, or set nan="zero"')
    if n_bad:
        volume[bad] = 0
    return volume


def check_same_grid(first: NiftiHeader, other: NiftiHeader) -> None:
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


def _open(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path} does not exist: correct the path or restore the file")
    try:
        return nib.load(path)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read as NIfTI ({_short(error, path)}): copy or export it again") from error


def _read_voxels(path: Path) -> np.ndarray:
    """Return scaled voxels as float32.

    Not by nibabel alone: it stops before the checksum of a .gz, so that damage would pass for data, and it
    scales in float64, which takes four times as long.
    """
    image = _open(path)
    if path.suffix == ".gz":
        image = type(image).from_bytes(gzip.decompress(path.read_bytes()))
    proxy = image.dataobj
    stored = np.asarray(proxy.get_unscaled())
    with np.errstate(over="ignore", invalid="ignore"):
        volume = stored.astype(np.float32)
        if proxy.slope != 1:
            volume *= np.float32(proxy.slope)
        if proxy.inter != 0:
            volume += np.float32(proxy.inter)
    return volume


def _short(error: BaseException, path: Path) -> str:
    lines = str(error).replace(str(path), path.name).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
