"""Reading a DICOM series as one volume (SimpleITK, by GDCM): a folder with a slice per file, or an enhanced file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.enhanced_dicom import find_frames, read_frames
from scripts.io.header import ImageHeader, place_at
from scripts.io.itk import simple_itk
from scripts.io.slice_stack import Series, stack_slices

__all__ = ["ENDINGS", "find_series", "has_frames", "is_dicom", "list_series", "read", "read_header"]

ENDINGS = (".dcm", ".ima")
_POSITION, _ORIENTATION, _SPACING = "0020|0032", "0020|0037", "0028|0030"
_FRAMES, _SAMPLES, _NAME = "0028|0008", "0028|0002", "0008|103e"
_STORAGE_CLASS = b"\x02\x00\x02\x00UI"  # the element in the file's own header, which is never of another encoding
_MOST_PACKED = 1100  # pixels in a byte of a file; its own header is large enough for any blank slice


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its ending or by the mark that its 129th byte begins."""
    if path.suffix.lower() in ENDINGS:
        return True
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def list_series(folder: Path) -> dict[str, tuple[str, int]]:
    """Return the series whose files lie in a folder: identifier -> description and number of files."""
    sitk = simple_itk()
    found = {}
    for name in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder)):
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), name)
        found[name] = (_tags(files[0]).get(_NAME, "") or "no description", len(files))
    return found


def has_frames(file: Path) -> bool:
    """Return whether a DICOM file holds several frames.

    Raises:
        InputError: it cannot be read.
    """
    return _n_frames(_tags(str(file))) > 1


def read_header(path: Path) -> ImageHeader:
    """Return the header of the one series in a folder, or of the volume in an enhanced file; its path is the given one.

    Raises:
        InputError: see `find_series`.
    """
    series = find_series(path)
    return ImageHeader(path, series.shape, series.affine, place_at(series.affine))


def read(path: Path) -> tuple[ImageHeader, np.ndarray]:
    """Return the header of a series, and its voxels (I, J, K), slope and intercept applied.

    Raises:
        InputError: see `find_series`; or if a slice cannot be read.
    """
    sitk = simple_itk()
    series = find_series(path)
    if series.frames:
        return read_header(path), read_frames(series)
    slices = []
    for file in series.files:
        try:
            slices.append(sitk.GetArrayFromImage(sitk.ReadImage(file))[0])
        except RuntimeError as error:
            raise InputError(f"{file} is cut off or damaged: copy it again") from error
    return read_header(path), np.stack(slices).transpose()


def find_series(path: Path) -> Series:
    """Return the one series in a folder, or in a file with frames, after checking that its slices make one volume.

    Raises:
        InputError: no series or several; several files with frames; colours; slices without a place or pixel size,
            of several orientations or sizes, twice at one place, with gaps, or stacked along a line that is not
            their normal; more pixels than a file can hold.
    """
    if path.is_file():
        return find_frames(path)
    return _find_series(path, max((file.stat().st_mtime_ns for file in path.iterdir() if file.exists()), default=0))


@lru_cache(maxsize=8)
def _find_series(folder: Path, _changed: int) -> Series:
    sitk = simple_itk()
    found = list_series(folder)
    if len(found) != 1:
        raise InputError(_not_one(folder, found))
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), next(iter(found)))
    _refuse_unlisted(folder, files)
    tags = [_tags(file) for file in files]
    framed = [file for file, known in zip(files, tags, strict=True) if _n_frames(known) > 1]
    if len(framed) > 1:
        names = ", ".join(Path(file).name for file in framed[:4])
        raise InputError(f"{folder} holds {len(framed)} volumes, one in a file each ({names}): give one of the files")
    for file, known in zip(files, tags, strict=True):
        if int(known.get(_SAMPLES, "1") or 1) > 1:
            raise InputError(f"{file} is a colour image: give the folder of a series of grey values")
    if framed:
        return find_frames(Path(framed[0]))
    return _of_slices(folder, files, tags)


def _of_slices(folder: Path, files: Sequence[str], tags: Sequence[dict[str, str]]) -> Series:
    """Return the volume whose slices are files."""
    for file, known in zip(files, tags, strict=True):
        _numbers(known, _SPACING, 2, file, "how large its pixels are")
    orientations = np.array([_numbers(known, _ORIENTATION, 6, file) for known, file in zip(tags, files, strict=True)])
    positions = np.array([_numbers(known, _POSITION, 3, file) for known, file in zip(tags, files, strict=True)])
    headers = [_header(file) for file in files]
    sizes = {(*header[0], *np.round(header[1], 4)) for header in headers}
    if len(sizes) > 1 or np.abs(orientations - orientations[0]).max() > 1e-3:
        raise InputError(f"{folder} holds slices of several sizes or orientations: give a series that is one volume")
    (width, height), spacing = headers[0]
    order, affine = stack_slices(folder, orientations[0], positions, spacing)
    return Series(tuple(files[number] for number in order), (width, height, len(files)), affine)


def _refuse_unlisted(folder: Path, files: Sequence[str]) -> None:
    """Refuse a folder with slices that GDCM passes over since it cannot read them.

    What else lies beside slices, such as presentation states and structured reports, is of another class.

    Raises:
        InputError: a file of the class of the series, or one too short to tell its class, is not in the series.
    """
    known = {Path(file).name for file in files}
    classes = {_storage_class(Path(file)) for file in files}
    for path in sorted(folder.iterdir()):
        if path.name in known or not path.is_file() or path.name.startswith(".") or not is_dicom(path):
            continue
        if _storage_class(path) in classes | {b""}:
            raise InputError(f"{path} is cut off or damaged: copy it again")


def _storage_class(path: Path) -> bytes:
    """Return the UID of what kind of object a DICOM file holds, empty where the file ends before it is told."""
    with path.open("rb") as stream:
        content = stream.read(1024)
    at = content.find(_STORAGE_CLASS)
    if at < 0:
        return b""
    start = at + len(_STORAGE_CLASS) + 2
    length = int.from_bytes(content[start - 2 : start], "little")
    return content[start : start + length].rstrip(b"\0 ") if len(content) >= start + length else b""


def _not_one(folder: Path, found: dict[str, tuple[str, int]]) -> str:
    if not found:
        return f"{folder} holds no DICOM series: give the folder of its files"
    listed = "; ".join(f"{name}, {count} files" for name, count in list(found.values())[:6])
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return f"{folder} holds {len(found)} DICOM series ({listed}{more}): move the one to use into a folder of its own"


def _reader(file: str) -> Any:
    reader = simple_itk().ImageFileReader()
    reader.SetFileName(file)
    reader.LoadPrivateTagsOff()
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise InputError(f"{file} cannot be read as DICOM: copy it again") from error
    return reader


def _header(file: str) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return columns and rows of a slice, and the size of a pixel along them [mm]."""
    reader = _reader(file)
    size, spacing = reader.GetSize(), reader.GetSpacing()
    if int(size[0]) * int(size[1]) > _MOST_PACKED * Path(file).stat().st_size:
        raise InputError(f"{file} says that it holds {size[0]} x {size[1]} pixels, more than it can: copy it again")
    return (int(size[0]), int(size[1])), (float(spacing[0]), float(spacing[1]))


def _tags(file: str) -> dict[str, str]:
    reader = _reader(file)
    return {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}


def _n_frames(tags: dict[str, str]) -> int:
    words = tags.get(_FRAMES, "1")
    return int(words) if words.isdecimal() else 1


def _numbers(
    tags: dict[str, str], key: str, count: int, file: str, what: str = "where its slice lies"
) -> Sequence[float]:
    """Return finite numbers of a tag, those of a size above 0."""
    try:
        values = [float(word) for word in tags[key].split("\\")]
    except (KeyError, ValueError):
        values = []
    good = len(values) == count and bool(np.isfinite(values).all()) and (key != _SPACING or min(values) > 0)
    if not good:
        raise InputError(f"{file} does not say {what}: give a series of MR images, exported anew or converted to NIfTI")
    return values
