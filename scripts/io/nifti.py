"""Reading NIfTI files so that whatever is wrong with one is told in one line that names it."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from scripts.errors import InputError
from scripts.io.header import ImageHeader

__all__ = ["parse_header", "read", "read_content", "read_header"]

_UNREADABLE = (OSError, EOFError, zlib.error, HeaderDataError, ValueError)
_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_PLACE = [f"quatern_{axis}" for axis in "bcd"] + [f"qoffset_{axis}" for axis in "xyz"]
_PLACE += [f"srow_{axis}" for axis in "xyz"] + ["qform_code", "sform_code", "xyzt_units"]


def read_header(path: Path) -> ImageHeader:
    """Return the header of a 3D NIfTI file, without reading its voxels.

    Raises:
        InputError: if the file is missing, unreadable, cut off (uncompressed files only: a cut in a .nii.gz
            shows when its voxels are read), not 3D, not of real numbers, placed by a singular affine, or not
            placed at all.
    """
    _check_there(path)
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            start = file.read(540)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read as NIfTI ({_short(error, path)}): copy or export it again") from error
    return _describe(path, parse_header(path, start), path.stat().st_size)


def read(path: Path) -> tuple[ImageHeader, np.ndarray]:
    """Return the header of a 3D NIfTI file, and its scaled voxels (I, J, K) in their own order as float32.

    The file is opened once. Not by nibabel alone: it stops before the checksum of a .gz, so that damage would pass
    for data, and it scales in float64, which takes four times as long.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full.
    """
    content = read_content(path)
    header = parse_header(path, content[:540])
    described = _describe(path, header, len(content))
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    try:
        proxy = kind.from_bytes(content).dataobj
        stored = np.asarray(proxy.get_unscaled())
    except _UNREADABLE as error:
        raise InputError(f"{path} is cut off or damaged ({_short(error, path)}): copy it again") from error
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = stored.astype(np.float32)
        if proxy.slope != 1:
            voxels *= np.float32(proxy.slope)
        if proxy.inter != 0:
            voxels += np.float32(proxy.inter)
    return described, voxels


def read_content(path: Path) -> bytes:
    """Return the bytes of a .nii file, or of the one in a .nii.gz file.

    Raises:
        InputError: if the file is missing, not compressed in spite of its name, cut off or damaged.
    """
    _check_there(path)
    try:
        content = path.read_bytes()
        if path.suffix.lower() != ".gz":
            return content
        if content[:2] != b"\x1f\x8b":
            raise InputError(f"{path} cannot be read as NIfTI (not a gzipped file): copy or export it again")
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is cut off or damaged ({_short(error, path)}): copy it again") from error


def parse_header(path: Path, content: bytes) -> nib.Nifti1Header:
    """Return the header that a NIfTI-1 or NIfTI-2 file begins with, of either byte order.

    Raises:
        InputError: there is none, or it contradicts itself.
    """
    sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    size = next((size for size in _KINDS if size in sizes and len(content) >= size), None)
    if size is None or b"n+" not in content[:8] + content[344:348]:
        raise InputError(f"{path} cannot be read as NIfTI (no header): copy or export it again")
    try:
        return _KINDS[size](content[:size])
    except HeaderDataError as error:
        raise InputError(f"{path} cannot be read as NIfTI ({_short(error, path)}): copy or export it again") from error


def _describe(path: Path, header: Any, n_bytes: int) -> ImageHeader:
    """Return what the header of a file says, after checking it; ``n_bytes`` is the size of the file."""
    shape = tuple(int(n) for n in header.get_data_shape())
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path} is {len(shape)}D with shape {shape}: give one 3D volume")
    if header.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} holds {header.get_data_dtype()} voxels: give one real number per voxel")
    affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has a singular affine, so no voxel spacing: write its sform or qform anew")
    if int(header["sform_code"]) == int(header["qform_code"]) == 0:
        raise InputError(f"{path} has neither sform nor qform, so no spacing and orientation: convert the scan anew")
    if path.suffix.lower() == ".nii":
        expected = int(header.get_data_offset()) + int(np.prod(shape)) * int(header.get_data_dtype().itemsize)
        if n_bytes < expected:
            raise InputError(f"{path} is cut off ({n_bytes} of {expected} bytes): copy it again")
    place = type(header)()
    for field in _PLACE:
        place[field] = header[field]
    place["pixdim"][:4] = header["pixdim"][:4]
    return ImageHeader(path, shape, affine, bytes(place.binaryblock))


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} does not exist: correct the path or restore the file")


def _short(error: BaseException, path: Path) -> str:
    lines = str(error).replace(str(path), path.name).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
