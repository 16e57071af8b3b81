"""Voxel grids and smooth random fields that are the same whatever the grid they are sampled on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.errors import InputError

__all__ = [
    "HEAD_BOX",
    "Array",
    "Array64",
    "Box",
    "Grid",
    "Lattice",
    "brain_grid",
    "sample_lattice",
    "stream",
    "white_lattice",
]

Array = NDArray[np.float32]
Array64 = NDArray[np.floating[Any]]

Box = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Lowest corner and size [mm, MNI-like axes] of what a random field covers."""

HEAD_BOX: Box = ((-104.0, -148.0, -112.0), (208.0, 264.0, 224.0))
"""A head with some air around it."""
# Field of view [mm] of a brain-only volume, wide enough for the largest and most rotated subject.
_BRAIN_LOW = (-84.0, -126.0, -84.0)
_BRAIN_SIZE = (168.0, 216.0, 180.0)
# Mean over positions of the sum of squared cubic B-spline weights along one axis.
_SPLINE_POWER = 151.0 / 315.0
_STREAMS = ("person", "shape", "folds", "tissue", "noise", "lesion", "pathology", "scan")


@dataclass(frozen=True)
class Grid:
    """An axis-aligned RAS voxel grid: ``shape`` voxels, ``spacing`` [mm], ``origin`` of voxel 0 [mm]."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index to world [mm], (4, 4)."""
        matrix = np.diag([self.spacing, self.spacing, self.spacing, 1.0])
        matrix[:3, 3] = self.origin
        return matrix

    def axes(self) -> list[Array64]:
        """World coordinates [mm] of the voxel centres along each axis."""
        return [o + self.spacing * np.arange(n) for o, n in zip(self.origin, self.shape, strict=True)]


@dataclass(frozen=True)
class Lattice:
    """Cubic B-spline coefficients ``values`` (..., I, J, K), ``spacing`` [mm], over a fixed ``box``."""

    values: Array
    spacing: float
    box: Box = HEAD_BOX


def brain_grid(spacing: float) -> Grid:
    """Return the grid of a brain-only volume at ``spacing`` [mm].

    Raises:
        InputError: If the spacing lies outside 0.7 to 8 mm.
    """
    if not isinstance(spacing, (int, float)) or not 0.7 <= spacing <= 8.0:
        raise InputError(f"spacing is {spacing} mm: choose a number from 0.7 to 8")
    counts = [math.ceil(size / spacing) for size in _BRAIN_SIZE]
    middle = [low + size / 2 for low, size in zip(_BRAIN_LOW, _BRAIN_SIZE, strict=True)]
    origin = [m - spacing * (n - 1) / 2 for m, n in zip(middle, counts, strict=True)]
    return Grid((counts[0], counts[1], counts[2]), spacing, (origin[0], origin[1], origin[2]))


def stream(seed: int, subject: int, name: str) -> np.random.Generator:
    """Return the generator of one named stream of one subject; streams never share a draw."""
    return np.random.default_rng([seed, subject, _STREAMS.index(name)])


def lattice_axes(spacing: float, box: Box = HEAD_BOX) -> list[Array64]:
    """World coordinates [mm] of the lattice nodes along each axis; one node of margin on either side."""
    low, size = box
    counts = [math.ceil(length / spacing) + 3 for length in size]
    return [start + spacing * (np.arange(n) - 1.0) for start, n in zip(low, counts, strict=True)]


def white_lattice(rng: np.random.Generator, spacing: float, channels: int = 1, box: Box = HEAD_BOX) -> Lattice:
    """Draw a random field with features of about ``spacing`` [mm], zero mean and unit variance.

    Returns:
        A lattice with values of shape (channels, I, J, K).
    """
    shape = (channels, *(len(axis) for axis in lattice_axes(spacing, box)))
    values = rng.standard_normal(shape, dtype=np.float32) / np.float32(_SPLINE_POWER**1.5)
    return Lattice(values, spacing, box)


def sample_lattice(lattice: Lattice, axes: list[Array64]) -> Array:
    """Evaluate a lattice's cubic B-spline at the points of an axis-aligned grid.

    Args:
        lattice: Coefficients (channels, I, J, K).
        axes: World coordinates [mm] along each axis, lengths (X, Y, Z).

    Returns:
        Values (channels, X, Y, Z).
    """
    nodes = lattice_axes(lattice.spacing, lattice.box)
    x, y, z = (_spline_weights(a, n[0], lattice.spacing, len(n)) for a, n in zip(axes, nodes, strict=True))
    rows = y @ (torch.from_numpy(lattice.values) @ z.T)
    channels, count = rows.shape[:2]
    values: Array = (x @ rows.reshape(channels, count, -1)).numpy()
    return values.reshape(channels, len(x), len(y), len(z))


def _spline_weights(points: Array64, start: float, spacing: float, count: int) -> torch.Tensor:
    """Weights (len(points), count) of the uniform cubic B-spline; zero beyond two nodes."""
    distance = np.abs((points[:, None] - start) / spacing - np.arange(count))
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return torch.from_numpy(np.where(distance < 1.0, near, far).astype(np.float32))
