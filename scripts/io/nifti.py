"""Reading NIfTI files so that whatever is wrong with one is told in one line that names it."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.fetched import check_fetched
from scripts.io.header import MOST_PACKED, ImageHeader

__all__ = ["parse_header", "read", "read_content", "read_header"]

_UNREADABLE = (OSError, EOFError, zlib.error, HeaderDataError, ValueError)
_GZIP = b"\x1f\x8b"
_UNITS = {1: "metres", 3: "microns"}
_KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_PLACE = [f"quatern_{axis}" for axis in "bcd"] + [f"qoffset_{axis}" for axis in "xyz"]
_PLACE += [f"srow_{axis}" for axis in "xyz"] + ["qform_code", "sform_code", "xyzt_units"]


def read_header(path: Path) -> ImageHeader:
    """Return the header of a 3D NIfTI file, without reading its voxels.

    Raises:
        InputError: if the file is missing, unreadable, cut off (a cut in a .nii.gz shows when its voxels are read,
            unless it is too short for them by far), not 3D, not of real numbers, in other units than mm, of no voxel
            size, placed by a singular affine, or not placed at all.
    """
    return _describe(path, _start(path))


def read(path: Path) -> tuple[ImageHeader, np.ndarray]:
    """Return the header of a 3D NIfTI file, and its scaled voxels (I, J, K) in their own order.

    They are float32, or float64 where that may not hold them. Not by nibabel alone: it stops before the checksum of a
    .gz, so that damage would pass for data, and it scales in float64, which takes four times as long.

    Raises:
        InputError: as `read_header`; if the voxels cannot be read in full.
    """
    with _opened(path) as file:
        start = _first_bytes(path, file)
        described, header = _describe(path, start), parse_header(path, start)
        file.seek(0)
        content = _content(path, file, _expected(header))
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    try:
        proxy = kind.from_bytes(content).dataobj
        stored = np.asarray(proxy.get_unscaled())
    except _UNREADABLE as error:
        raise InputError(f"{path} is cut off or damaged ({_short(error, path)}): copy it again") from error
    tame = all(value == 0 or 1e-9 < abs(value) < 1e9 for value in (proxy.slope, proxy.inter))
    kept = np.float32 if tame and stored.dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        voxels: NDArray[Any] = stored.astype(kept)
        if proxy.slope != 1:
            voxels *= kept(proxy.slope)
        if proxy.inter != 0:
            voxels += kept(proxy.inter)
    return described, voxels


def read_content(path: Path, n_bytes: int | None = None) -> bytes:
    """Return the bytes of a .nii file, or of the one in a .nii.gz file.

    Args:
        path: the file.
        n_bytes: how many of its first bytes to return, all by default; the others are checked, but take no memory.

    Raises:
        InputError: if the file is missing, not compressed in spite of its name, cut off or damaged.
    """
    with _opened(path) as file:
        return _content(path, file, n_bytes)


def _content(path: Path, file: BinaryIO, n_bytes: int | None) -> bytes:
    try:
        if path.suffix.lower() != ".gz":
            return file.read(-1 if n_bytes is None else n_bytes)
        content = file.read()
        if content[:2] != _GZIP:
            raise InputError(f"{path} cannot be read as NIfTI (not a gzipped file): copy or export it again")
        return gzip.decompress(content) if n_bytes is None else _inflate(content, n_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is cut off or damaged ({_short(error, path)}): copy it again") from error


def _inflate(content: bytes, n_bytes: int) -> bytes:
    """Return the first bytes of what is in a gzip file, all of which is checked."""
    kept, missing = [], n_bytes
    while content:
        member = zlib.decompressobj(wbits=31)  # gzip, with its checksum
        while not member.eof:
            part = member.decompress(content, max(missing, 1 << 22))
            content = member.unconsumed_tail
            if missing > 0:
                kept.append(part[:missing])
                missing -= len(kept[-1])
            if not part and not content and not member.eof:
                raise EOFError("its end is missing")
        content = member.unused_data.lstrip(b"\0")
        if content and content[:2] != _GZIP:
            raise EOFError("something else follows the data")
    return kept[0] if len(kept) == 1 else b"".join(kept)


def parse_header(path: Path, content: bytes, *, check: bool = True) -> nib.Nifti1Header:
    """Return the header that a NIfTI-1 or NIfTI-2 file begins with, of either byte order.

    Args:
        path: the file.
        content: its first bytes.
        check: False leaves it as it is written, where nibabel would mend it.

    Raises:
        InputError: there is none, or it contradicts itself.
    """
    sizes = {int.from_bytes(content[:4], order) for order in ("little", "big")}
    size = next((size for size in _KINDS if size in sizes and len(content) >= size), None)
    if size is None or b"n+" not in content[:8] + content[344:348]:
        raise InputError(f"{path} cannot be read as NIfTI (no header): copy or export it again")
    try:
        return _KINDS[size](content[:size], check=check)
    except HeaderDataError as error:
        raise InputError(f"{path} cannot be read as NIfTI ({_short(error, path)}): copy or export it again") from error


def _start(path: Path) -> bytes:
    """Return the first bytes of a file, enough for any header."""
    with _opened(path) as file:
        return _first_bytes(path, file)


def _first_bytes(path: Path, file: BinaryIO) -> bytes:
    try:
        if path.suffix.lower() != ".gz":
            return file.read(544)
        with gzip.GzipFile(fileobj=file) as content:
            return content.read(544)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read as NIfTI ({_short(error, path)}): copy or export it again") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    check_fetched(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read as NIfTI ({_short(error, path)}): copy or export it again") from error
    with file:
        yield file


def _describe(path: Path, start: bytes) -> ImageHeader:
    """Return what the header of a file says, after checking it."""
    written = parse_header(path, start, check=False)
    shape = tuple(int(n) for n in written.get_data_shape())
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"{path} is {len(shape)}D with shape {shape}: give one 3D volume")
    _check_as_written(path, written)
    header = parse_header(path, start)
    if header.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} holds {header.get_data_dtype()} voxels: give one real number per voxel")
    if int(header["sform_code"]) == int(header["qform_code"]) == 0:
        raise InputError(f"{path} has neither sform nor qform, so no spacing and orientation: convert the scan anew")
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (ValueError, HeaderDataError):
        affine = np.full((4, 4), np.nan)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise InputError(f"{path} has a singular affine, so no voxel spacing: write its sform or qform anew")
    n_bytes, expected = path.stat().st_size, _expected(header)
    if n_bytes * (1 if path.suffix.lower() == ".nii" else MOST_PACKED) < expected:
        raise InputError(f"{path} is cut off or damaged ({n_bytes} of {expected} bytes): copy it again")
    place = type(header)()
    for field in _PLACE:
        place[field] = header[field]
    place["pixdim"][:4] = header["pixdim"][:4]
    return ImageHeader(path, shape, affine, bytes(place.binaryblock))


def _check_as_written(path: Path, header: Any) -> None:
    """Check what nibabel mends on its own, in a header as it is written: a voxel side of 0 becomes 1 mm there.

    Raises:
        InputError: voxel sides that are none, units other than mm, or voxels that begin inside the header.
    """
    sides = [float(side) for side in header["pixdim"][1:4]]
    if not all(0 < side < np.inf for side in sides):
        raise InputError(f"{path} has pixdim {sides}, which is no voxel size: write it anew, or convert the scan again")
    unit = int(header["xyzt_units"]) & 7
    if unit not in (0, 2):
        raise InputError(
            f"{path} is in {_UNITS.get(unit, 'unknown units')} (xyzt_units), not in mm: write its sform, qform and "
            "pixdim in mm, or convert the scan again"
        )
    offset, first = float(header["vox_offset"]), header.sizeof_hdr + 4
    if not first <= offset < 2.0**62:
        raise InputError(f"{path} has voxels from byte {offset:g} on, but its header ends at {first}: convert it again")


def _expected(header: Any) -> int:
    """Return how many bytes a file with this header has at least."""
    voxels = math.prod(int(n) for n in header.get_data_shape())
    return int(header.get_data_offset()) + voxels * int(header.get_data_dtype().itemsize)


def _short(error: BaseException, path: Path) -> str:
    lines = str(error).replace(str(path), path.name).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
