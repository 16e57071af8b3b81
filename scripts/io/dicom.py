"""Reading a folder with one DICOM series, one slice per file, as one volume (SimpleITK, by GDCM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.header import ImageHeader, place_at
from scripts.io.itk import simple_itk

__all__ = ["Series", "find_series", "is_dicom", "list_series", "read", "read_header"]

_POSITION, _ORIENTATION = "0020|0032", "0020|0037"
_FRAMES, _SAMPLES, _NAME = "0028|0008", "0028|0002", "0008|103e"
_STORAGE_CLASS = b"\x02\x00\x02\x00UI"  # the element in the file's own header, which is never of another encoding
_TOLERANCE = 0.02  # of the distance between slices


@dataclass(frozen=True)
class Series:
    """The files of a series in the order of their slices, the shape (I, J, K), and the RAS+ affine (4, 4) [mm]."""

    files: tuple[str, ...]
    shape: tuple[int, int, int]
    affine: np.ndarray


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM by its ending or by the mark that its 129th byte begins."""
    if path.suffix.lower() in (".dcm", ".ima"):
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


def read_header(folder: Path) -> ImageHeader:
    """Return the header of the one series in a folder; its path is that of the folder.

    Raises:
        InputError: see `find_series`.
    """
    series = find_series(folder)
    return ImageHeader(folder, series.shape, series.affine, place_at(series.affine))


def read(folder: Path) -> tuple[ImageHeader, np.ndarray]:
    """Return the header of the one series in a folder, and its voxels (I, J, K), slope and intercept applied.

    Raises:
        InputError: see `find_series`; or if a slice cannot be read.
    """
    sitk = simple_itk()
    slices = []
    for file in find_series(folder).files:
        try:
            slices.append(sitk.GetArrayFromImage(sitk.ReadImage(file))[0])
        except RuntimeError as error:
            raise InputError(f"{file} is cut off or damaged: copy it again") from error
    return read_header(folder), np.stack(slices).transpose()


def find_series(folder: Path) -> Series:
    """Return the one series in a folder, after checking that its slices make one volume.

    Raises:
        InputError: no series or several; frames or colours in a file; slices of several orientations or sizes, twice
            at one place, with gaps, or stacked along a line that is not their normal.
    """
    return _find_series(folder, max((path.stat().st_mtime_ns for path in folder.iterdir()), default=0))


@lru_cache(maxsize=8)
def _find_series(folder: Path, _changed: int) -> Series:
    sitk = simple_itk()
    found = list_series(folder)
    if len(found) != 1:
        raise InputError(_not_one(folder, found))
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), next(iter(found)))
    _refuse_unlisted(folder, files)
    headers = [_header(file) for file in files]
    tags = [_tags(file) for file in files]
    for file, known in zip(files, tags, strict=True):
        if int(known.get(_FRAMES, "1") or 1) > 1:
            raise InputError(f"{file} holds several frames (enhanced DICOM): convert it to NIfTI, with dcm2niix say")
        if int(known.get(_SAMPLES, "1") or 1) > 1:
            raise InputError(f"{file} is a colour image: give the folder of a series of grey values")
    orientations = np.array([_numbers(known, _ORIENTATION, 6, file) for known, file in zip(tags, files, strict=True)])
    positions = np.array([_numbers(known, _POSITION, 3, file) for known, file in zip(tags, files, strict=True)])
    sizes = {(*header[0], *np.round(header[1], 4)) for header in headers}
    if len(sizes) > 1 or np.abs(orientations - orientations[0]).max() > 1e-3:
        raise InputError(f"{folder} holds slices of several sizes or orientations: give a series that is one volume")
    order, step = _stacked(folder, orientations[0], positions)
    (width, height), (across, down) = headers[0]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientations[0][:3] * across, orientations[0][3:] * down
    affine[:3, 2], affine[:3, 3] = step, positions[order[0]]
    ordered = tuple(files[number] for number in order)
    return Series(ordered, (width, height, len(files)), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


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


def _stacked(folder: Path, orientation: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of slices along their normal, and the step from one to the next [mm]."""
    normal = np.cross(orientation[:3], orientation[3:])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    if len(order) < 2:
        raise InputError(f"{folder} holds one slice: give the folder of a whole series")
    gaps = np.diff(along[order])
    usual = float(np.median(gaps))
    if usual <= 0 or gaps.min() < 0.5 * usual:
        raise InputError(f"{folder} holds several slices at one place (several echoes or times): give one of them")
    if gaps.max() > (1 + _TOLERANCE) * usual:
        at = int(gaps.argmax())
        raise InputError(
            f"{folder} lacks slices: {gaps[at]:.3g} mm lie between slices {at + 1} and {at + 2}, elsewhere "
            f"{usual:.3g}: copy the series again"
        )
    step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    if np.linalg.norm(step - normal * (step @ normal)) > _TOLERANCE * np.linalg.norm(step):
        raise InputError(f"{folder} has slices stacked obliquely (a tilted gantry): resample it to an upright grid")
    return order, step


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
    return (int(size[0]), int(size[1])), (float(spacing[0]), float(spacing[1]))


def _tags(file: str) -> dict[str, str]:
    reader = _reader(file)
    return {key: reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}


def _numbers(tags: dict[str, str], key: str, count: int, file: str) -> Sequence[float]:
    try:
        values = [float(word) for word in tags[key].split("\\")]
    except (KeyError, ValueError):
        values = []
    if len(values) != count:
        raise InputError(
            f"{file} does not say where its slice lies: give a series of MR images, converted to NIfTI say"
        )
    return values
