"""Reading one volume from an enhanced (multi-frame) DICOM file: its geometry by pydicom, its pixels by SimpleITK.

SimpleITK alone stacks the frames as they come: where a file holds two volumes, it makes one of twice the height.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.errors import InputError
from scripts.io.itk import simple_itk
from scripts.io.slice_stack import Series, stack_slices

__all__ = ["find_frames", "read_frames"]

_PLACES = 1e-3  # mm, within which two frames lie at one place
_SCALE = "PixelValueTransformationSequence"
_CURE = "convert it with dcm2niix and give one NIfTI file"
_KINDS = (
    ("MRImageFrameTypeSequence", "FrameType"),
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex"),
)


def find_frames(file: Path) -> Series:
    """Return the one volume whose slices are the frames of a file, after checking that they make one.

    Raises:
        InputError: a damaged file; frames that say no place, of several orientations, sizes or
            scales; several volumes; and what `scripts.io.slice_stack.stack_slices` refuses.
    """
    dataset = _dataset(file)
    shared = dataset.get("SharedFunctionalGroupsSequence") or [{}]
    groups = [(frame, shared[0]) for frame in dataset.get("PerFrameFunctionalGroupsSequence") or []]
    positions = _numbers(file, groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    orientations = _numbers(file, groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacings = _numbers(file, groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    if len(groups) != int(dataset.get("NumberOfFrames") or 0):
        raise InputError(f"{file} says of {len(groups)} frames where they lie, of {dataset.get('NumberOfFrames')}")
    for values in (orientations, spacings):
        if np.abs(values - values[0]).max() > 1e-3:
            raise InputError(f"{file} holds frames of several orientations or pixel sizes: {_CURE}")
    _refuse_several(file, groups, positions, orientations[0])
    scales = {(_value(group, _SCALE, "RescaleSlope"), _value(group, _SCALE, "RescaleIntercept")) for group in groups}
    if len(scales) > 1:
        raise InputError(f"{file} scales the values of its frames each in another way: {_CURE}")
    down, across = (float(side) for side in spacings[0])
    order, affine = stack_slices(file, orientations[0], positions, (across, down))
    shape = (int(dataset.Columns), int(dataset.Rows), len(groups))
    return Series((str(file),), shape, affine, tuple(int(number) for number in order))


def read_frames(series: Series) -> np.ndarray:
    """Return the voxels (I, J, K) of the volume that `find_frames` found, slope and intercept applied.

    Raises:
        InputError: if they cannot be read in full.
    """
    sitk = simple_itk()
    try:
        frames = sitk.GetArrayFromImage(sitk.ReadImage(series.files[0]))
    except RuntimeError as error:
        raise InputError(f"{series.files[0]} is cut off or damaged: copy it again") from error
    if frames.shape != series.shape[::-1]:
        raise InputError(f"{series.files[0]} holds other frames than it says: copy it again")
    return np.asarray(frames[list(series.frames)].transpose())


def _dataset(file: Path) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(file, stop_before_pixels=True)
    except Exception as error:  # of many kinds, from whatever a file holds
        raise InputError(f"{file} cannot be read as DICOM: copy it again") from error


def _value(group: Sequence[Any], macro: str, name: str) -> Any:
    """Return what a frame's own groups say, or else those that all frames share; None if neither does."""
    for part in group:
        items = part.get(macro)
        if items:
            return items[0].get(name)
    return None


def _numbers(file: Path, groups: Sequence[Sequence[Any]], macro: str, name: str, count: int) -> np.ndarray:
    """Return numbers of each frame (N, count)."""
    try:
        values = np.array([[float(x) for x in _value(group, macro, name)] for group in groups], dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.ndim != 2 or values.shape[1] != count:
        raise InputError(f"{file} does not say where its frames lie ({name} is missing): {_CURE}")
    return values


def _refuse_several(
    file: Path, groups: Sequence[Sequence[Any]], positions: np.ndarray, orientation: np.ndarray
) -> None:
    """Refuse several volumes, and say how many there are and in what they differ."""
    along = positions @ np.cross(orientation[:3], orientation[3:])
    places, counts = np.unique(np.round(along / _PLACES), return_counts=True)
    if len(places) == len(groups):
        return
    kinds = [{_word(_value(group, macro, name)) for group in groups} for macro, name in _KINDS]
    differ = [
        f"{name} {', '.join(sorted(found)[:4])}"
        for (_, name), found in zip(_KINDS, kinds, strict=True)
        if len(found) > 1
    ]
    words = f" ({'; '.join(differ)})" if differ else ""
    raise InputError(f"{file} holds {counts.max()} volumes of {len(places)} slices{words}: {_CURE}")


def _word(value: Any) -> str:
    return str(value) if isinstance(value, (str, float, int)) or value is None else "/".join(map(str, value))
