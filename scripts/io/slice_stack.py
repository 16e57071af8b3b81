"""Slices of DICOM, one after another along a line, as one volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.errors import InputError

__all__ = ["Series", "stack_slices"]

_TOLERANCE = 0.02  # of the distance between slices


@dataclass(frozen=True)
class Series:
    """The slices of a volume in their order, its shape (I, J, K), and its RAS+ affine (4, 4) [mm].

    A file holds one slice; or one file holds all of them as its ``frames``.
    """

    files: tuple[str, ...]
    shape: tuple[int, int, int]
    affine: np.ndarray
    frames: tuple[int, ...] = ()


def stack_slices(
    path: Path,
    orientation: np.ndarray,
    positions: np.ndarray,
    spacing: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of slices along their normal, and the RAS+ affine (4, 4) [mm] of the volume that they are.

    Args:
        path: what they were read from.
        orientation: directions along columns and rows (6,), of DICOM's world.
        positions: of the first pixel of each slice (N, 3) [mm].
        spacing: of pixels along these directions [mm].

    Raises:
        InputError: no proper directions or pixels; one slice; two at one place; gaps; slices that are stacked along a
            line that is not their normal.
    """
    _check_plane(path, orientation, positions, spacing)
    order, step = _stacked(path, orientation, positions)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = orientation[:3] * spacing[0], orientation[3:] * spacing[1]
    affine[:3, 2], affine[:3, 3] = step, positions[order[0]]
    return order, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _check_plane(path: Path, orientation: np.ndarray, positions: np.ndarray, spacing: tuple[float, float]) -> None:
    if not all(0 < side < np.inf for side in spacing):
        raise InputError(f"{path} says no size of its pixels (PixelSpacing {spacing}): export the series again")
    along, down = orientation[:3], orientation[3:]
    lengths = np.linalg.norm(along), np.linalg.norm(down)
    if not (np.allclose(lengths, 1, atol=1e-2) and abs(float(along @ down)) < 1e-2):
        raise InputError(f"{path} says no orientation (its ImageOrientationPatient is none): export the series again")
    if not np.isfinite(positions).all():
        raise InputError(f"{path} has slices that lie nowhere (ImagePositionPatient): export the series again")


def _stacked(path: Path, orientation: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of slices along their normal, and the step from one to the next [mm]."""
    normal = np.cross(orientation[:3], orientation[3:])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    if len(order) < 2:
        raise InputError(f"{path} holds one slice: give the folder of a whole series")
    gaps = np.diff(along[order])
    usual = float(np.median(gaps))
    if usual <= 0 or gaps.min() < 0.5 * usual:
        raise InputError(f"{path} holds several slices at one place (several echoes or times): give one of them")
    if gaps.max() > (1 + _TOLERANCE) * usual:
        at = int(gaps.argmax())
        raise InputError(
            f"{path} lacks slices: {gaps[at]:.3g} mm lie between slices {at + 1} and {at + 2}, elsewhere "
            f"{usual:.3g}: copy the series again"
        )
    step = (positions[order[-1]] - positions[order[0]]) / (len(order) - 1)
    if np.linalg.norm(step - normal * (step @ normal)) > _TOLERANCE * np.linalg.norm(step):
        raise InputError(f"{path} has slices stacked obliquely (a tilted gantry): resample it to an upright grid")
    return order, step
