"""One subject's brain: its shape (a diffeomorphism onto the template) and its tissue fractions.

Nothing here knows a tissue value or a file: the embedded qMRI cohort, and the cohorts of whole heads, are all
written from the same anatomy. A subject is a function of random streams alone, and its fields live in
millimetres, so it is the same person on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scripts.cohort.lattice import (
    Array,
    Array64,
    Grid,
    Lattice,
    lattice_axes,
    sample_lattice,
    white_lattice,
)
from scripts.cohort.template import TISSUES, load_template, sample_pull, sample_template, sample_volume

__all__ = ["NODE", "Anatomy", "Shape", "build_anatomy", "draw_shape", "integrate", "rotation", "to_template"]

NODE = 4.0
"""Distance [mm] between the points on which the displacement is integrated."""

_SQUARINGS = 6
# Control spacing [mm] and standard deviation [mm] of the random velocity, from lobes to gyri.
_VELOCITY = ((40.0, 2.6), (22.0, 1.6), (11.0, 0.5))
_FLOOR = 0.012  # smallest template fraction: what the template is sure of, folding does not overturn


@dataclass(frozen=True)
class Shape:
    """A subject's shape: subject world to MNI is x -> ``affine`` (x + ``displacement`` (x)), all in mm.

    Attributes:
        affine: (3, 4).
        displacement: Lattice of (3, I, J, K) displacements [mm].
        atrophy: Widening of the sulci, in logits: 0 a young adult, 1 marked atrophy.
    """

    affine: NDArray[np.float64]
    displacement: Lattice
    atrophy: float


@dataclass(frozen=True)
class Anatomy:
    """Tissue of the N voxels of a brain, in the order in which ``brain`` selects them.

    Attributes:
        grid: The voxel grid.
        brain: (I, J, K) bool.
        points: (3, N) MNI coordinates [mm].
        fractions: (len(TISSUES), N), summing to 1.
        ventricle: (N,) soft mask of the lateral and third ventricles.
        regional: (N,) relative change of the R1 of grey and white matter with place.
    """

    grid: Grid
    brain: NDArray[np.bool_]
    points: Array
    fractions: Array
    ventricle: Array
    regional: Array

    def volume(self, values: NDArray[Any], dtype: type[np.generic] = np.float32) -> NDArray[Any]:
        """Put ``values`` (N,) into a volume (I, J, K) that is 0 outside the brain."""
        full: NDArray[Any] = np.zeros(self.grid.shape, dtype=dtype)
        full[self.brain] = values
        return full


def draw_shape(
    rng: np.random.Generator,
    *,
    size: float = 1.0,
    ventricles: tuple[float, float] = (0.0, 0.0),
    atrophy: float = 0.0,
) -> Shape:
    """Draw a subject's shape.

    Args:
        rng: Source of every draw.
        size: Linear size of the head, 1 = template.
        ventricles: Growth of the left and right ventricles [mm of wall displacement, about].
        atrophy: Widening of the sulci, see `Shape`.
    """
    scale = size * np.exp(rng.normal(0.0, 0.018, 3))
    angles = np.deg2rad(rng.normal(0.0, (2.5, 1.5, 1.5)))
    shift = rng.normal(0.0, 1.2, 3)
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = rng.normal(0.0, 0.015, 3)
    matrix = rotation(angles) @ shear @ np.diag(1.0 / np.clip(scale, 0.88, 1.09))
    centre = np.array([0.0, -18.0, 5.0])
    affine = np.column_stack([matrix, centre - matrix @ (centre + shift)])
    axes = lattice_axes(NODE)
    velocity = np.zeros((3, *(len(axis) for axis in axes)), np.float32)
    for spacing, deviation in _VELOCITY:
        velocity += np.float32(deviation) * sample_lattice(white_lattice(rng, spacing, 3), axes)
    velocity += _ventricle_velocity(affine, axes, ventricles)
    return Shape(affine, Lattice(integrate(velocity), NODE), atrophy)


def to_template(shape: Shape, grid: Grid) -> Array:
    """Return the MNI coordinates [mm] of every voxel of ``grid``, (3, I, J, K)."""
    axes = grid.axes()
    place = sample_lattice(shape.displacement, axes)
    for axis, values in enumerate(axes):
        place[axis] += values.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    matrix, shift = shape.affine[:, :3].astype(np.float32), shape.affine[:, 3].astype(np.float32)
    mapped: Array = np.matmul(matrix, place.reshape(3, -1)) + shift[:, None]
    return mapped.reshape(place.shape)


def build_anatomy(shape: Shape, grid: Grid, rng: np.random.Generator) -> Anatomy:
    """Return the tissue fractions of one subject on ``grid``; ``rng`` draws its individual folding.

    The template is an average, soft where people differ. Each tissue's log fraction is sharpened and shifted
    by a random field of gyral scale, so a subject shows its own, crisp sulci where the template is
    undecided and the template's tissue where it is sure. The brain stem keeps the template's soft mixtures.
    """
    template = load_template(max(grid.spacing, 1.0))
    everywhere = to_template(shape, grid).reshape(3, -1)
    inside = sample_template(template, everywhere, ["brain"])["brain"] > 0.5
    points = np.ascontiguousarray(everywhere[:, inside])
    del everywhere
    brain = inside.reshape(grid.shape)
    found = sample_template(template, points, [*TISSUES, "folding", "ventricle", "regional"])
    folds = _fold_fields(rng, grid, brain)
    fractions = np.stack([found[name] for name in TISSUES])
    strength = (1.0 + 1.6 / max(grid.spacing, 1.0)) * found["folding"]
    push = folds * found["folding"]
    push[2] += (0.3 + shape.atrophy) * found["folding"]
    fractions[:3] = _sharpen(fractions[:3], np.maximum(strength, 1.0), push)
    fractions /= fractions.sum(0)
    return Anatomy(grid, brain, points, fractions, found["ventricle"], found["regional"])


def _sharpen(fractions: Array, strength: Array, push: Array) -> Array:
    """Softmax of ``strength`` * log(fraction) + ``push``, scaled to the fractions' sum; all (3, N)."""
    total = fractions.sum(0)
    logits = strength * np.log(fractions / np.maximum(total, 1e-6) + np.float32(_FLOOR)) + push
    weights = np.exp(logits - logits.max(0))
    weights[fractions <= 0.0] = 0.0
    sharpened: Array = weights * (total / np.maximum(weights.sum(0), 1e-12))
    return sharpened


def _fold_fields(rng: np.random.Generator, grid: Grid, brain: NDArray[np.bool_]) -> Array:
    """Random shifts of the logits of grey, white and fluid, (3, N): gyral (7 mm) and finer (3.5 mm) scale."""
    axes = grid.axes()
    coarse = sample_lattice(white_lattice(rng, 7.0, 3), axes)[:, brain]
    fine = sample_lattice(white_lattice(rng, 3.5, 3), axes)[:, brain]
    fields: Array = 0.75 * coarse + 0.45 * fine
    return fields


def _ventricle_velocity(affine: NDArray[np.float64], axes: list[Array64], growth: tuple[float, float]) -> Array:
    """Velocity (3, I, J, K) [mm] towards the ventricles, so that sampling along it makes them larger."""
    mesh = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    points = (affine[:, :3] @ mesh + affine[:, 3:]).astype(np.float32)
    pull = sample_pull(load_template(1.0), points)
    right = 1.0 / (1.0 + np.exp(-points[0] / 3.0))
    amount = growth[0] * (1.0 - right) + growth[1] * right
    shape = [3, *(len(axis) for axis in axes)]
    return (pull * amount).astype(np.float32).reshape(shape)


def integrate(velocity: Array) -> Array:
    """Flow of a stationary velocity (3, I, J, K) [mm] over unit time, by scaling and squaring.

    References:
        Arsigny et al., MICCAI 2006, doi:10.1007/11866565_113.
    """
    flow = velocity / np.float32(2**_SQUARINGS)
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in flow.shape[1:]), indexing="ij"))
    for _ in range(_SQUARINGS):
        place = (index + flow / np.float32(NODE)).reshape(3, -1)
        flow = flow + sample_volume(torch.from_numpy(flow), place).reshape(flow.shape)
    return flow


def rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation (3, 3) about x, y, z in turn by ``angles`` [rad]."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation
