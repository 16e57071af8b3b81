"""Chronic stroke lesions of the middle cerebral artery, and age-related white-matter hyperintensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort.anatomy import Anatomy
from scripts.cohort.lattice import Array, sample_lattice, white_lattice
from scripts.cohort.template import TISSUES

__all__ = ["Lesion", "LesionPlan", "draw_lesion", "grow_hyperintensity", "grow_lesion", "hollow", "ramp"]

VOLUMES_ML = (3.0, 200.0)


@dataclass(frozen=True)
class LesionPlan:
    """What is decided about a lesion before it meets a brain.

    Attributes:
        side: -1 left, 1 right.
        centre: (3,) MNI coordinates [mm].
        axes: (3,) relative extent along x, y, z; their product is 1.
        volume_ml: Volume aimed at [ml].
        cavity: Share of the lesion that is cavity; the rest is gliosis.
    """

    side: int
    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    volume_ml: float
    cavity: float


@dataclass(frozen=True)
class Lesion:
    """A lesion in the N voxels of a brain.

    Attributes:
        extent: (N,) share of the voxel that lies in the lesion.
        cavity: (N,) share of that which is cavity.
        gliosis: (N,) how far gliosis has replaced the remaining tissue: most beside the cavity.
    """

    extent: Array
    cavity: Array
    gliosis: Array

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(N,) bool: voxels of which more than half is lesion."""
        return self.extent > 0.5


def draw_lesion(rng: np.random.Generator) -> LesionPlan:
    """Draw side, place, form and size: log-uniform volume, large lesions centred nearer the insula."""
    side = 1 if rng.random() < 0.4 else -1
    low, high = np.log(VOLUMES_ML)
    volume = float(np.exp(rng.uniform(low, high)))
    spread = 1.0 - 0.6 * (np.log(volume) - low) / (high - low)
    x = 40.0 + 10.0 * rng.uniform(-1.0, 1.0) * spread
    y = -12.0 + 38.0 * rng.uniform(-1.0, 1.0) * spread
    z = 14.0 + 26.0 * rng.uniform(-0.9, 1.0) * spread
    axes = np.exp(rng.normal((-0.05, 0.12, -0.02), 0.16))
    axes = axes / np.cbrt(axes.prod())
    cavity = float(rng.uniform(0.3, 0.9))
    return LesionPlan(side, (side * x, y, z), (axes[0], axes[1], axes[2]), volume, cavity)


def grow_lesion(plan: LesionPlan, anatomy: Anatomy, rng: np.random.Generator) -> Lesion:
    """Grow a lesion of the planned volume within the artery's territory.

    A score in millimetres falls with the distance from the centre, with a penalty outside the territory and a
    random rough field; the lesion is the connected region above the level that gives the volume, its border
    soft over about a millimetre. Within it a second level separates the cavity from the gliosis around
    it, which fades with the distance from the cavity.
    """
    axes = anatomy.grid.axes()
    rough = sample_lattice(white_lattice(rng, 15.0, 3), axes)[:, anatomy.brain]
    fine = sample_lattice(white_lattice(rng, 5.0, 2), axes)[:, anatomy.brain]
    score = -_distance(plan, anatomy.points) - _outside_territory(plan.side, anatomy.points)
    score += 6.5 * rough[0] + 2.2 * fine[0]
    score[(anatomy.ventricle > 0.4) | (plan.side * anatomy.points[0] < 1.5)] = -1e3
    wanted = max(round(plan.volume_ml * 1000.0 / anatomy.grid.spacing**3), 1)
    level = _level(score, wanted)
    body = _largest_part(anatomy, score > level)
    depth = np.where(ndimage.binary_dilation(body, iterations=2)[anatomy.brain], score - level, -1e3)
    extent = ramp(0.6 * depth) * (1.0 - np.clip(anatomy.ventricle, 0.0, 1.0))
    return hollow(extent, depth, plan.cavity, rough[1:], fine[1])


def hollow(extent: Array, depth: Array, cavity: float, rough: Array, fine: Array) -> Lesion:
    """Return a lesion with a cavity where it is deepest, and gliosis around it.

    Args:
        extent: (N,) share of the voxel that lies in the lesion.
        depth: (N,) distance [mm] from its border, negative outside.
        cavity: Share of the lesion that is cavity.
        rough: (2, N) random fields that make the cavity's border and the gliosis uneven.
        fine: (N,) another, finer one.
    """
    inner = depth + 1.5 * rough[0] + 1.2 * fine
    inside = inner[extent > 0.5]
    cut = _level(inside, max(round(cavity * inside.size), 1)) if inside.size else 0.0
    past = inner - max(float(cut), 1.2)
    gliosis = 0.4 + 0.55 * ramp(past / 12.0 + 0.45 * rough[1] + 0.25)
    return Lesion(extent, ramp(past), gliosis)


def grow_hyperintensity(amount: float, anatomy: Anatomy, rng: np.random.Generator) -> Array:
    """Return the weight (N,) of white-matter hyperintensities: caps and spots near the ventricles.

    Args:
        amount: Share of the deep white matter that is affected, such as 0.01.
        anatomy: The brain.
        rng: Draws where they are.
    """
    axes = anatomy.grid.axes()
    field = sample_lattice(white_lattice(rng, 7.0), axes)[0, anatomy.brain]
    near = np.zeros(anatomy.grid.shape, np.float32)
    near[anatomy.brain] = anatomy.ventricle
    near = ndimage.gaussian_filter(near, 7.0 / anatomy.grid.spacing)[anatomy.brain]
    white = anatomy.fractions[TISSUES.index("white")]
    deep = (white > 0.9) & (anatomy.points[2] > -5.0)
    score = field + 5.0 * near
    level = np.quantile(score[deep], 1.0 - amount)
    weight: Array = (ramp((score - level) * 6.0) * white * (anatomy.points[2] > -8.0)).astype(np.float32)
    return weight


def _distance(plan: LesionPlan, points: Array) -> Array:
    """Distance [mm] from the centre, with the way out to the cortex counted half: infarcts are wedges."""
    offset = (points - np.array(plan.centre, np.float32)[:, None]) / np.array(plan.axes, np.float32)[:, None]
    outwards = plan.side * offset[0]
    offset[0] = np.where(outwards > 0.0, 0.45 * outwards, outwards)
    distance: Array = np.sqrt((offset**2).sum(0))
    return distance


def _outside_territory(side: int, points: Array) -> Array:
    """Penalty [mm] that rises outside the middle cerebral artery's territory (MNI coordinates)."""
    x, y, z = side * points[0], points[1], points[2]
    medial = 1.8 * _soft_plus(18.0 - x) + _soft_plus((z - 42.0) / 2.0 + 12.0 - x / 2.0)
    posterior = 1.5 * _soft_plus(-66.0 - y)
    inferior = 1.5 * _soft_plus(-24.0 - z) + _soft_plus(-14.0 - z / 2.0 - y / 2.0 - 10.0)
    anterior = 1.2 * _soft_plus(y - 48.0)
    return medial + posterior + inferior + anterior


def _soft_plus(depth: Array) -> Array:
    """Rise from 0 to ``depth`` over some 15 mm without a kink, which would show as a straight border."""
    rise: Array = (0.5 * (depth + np.sqrt(depth * depth + 80.0))).astype(np.float32)
    return rise


def _level(values: Array, count: int) -> float:
    """Level that ``count`` of ``values`` exceed or meet."""
    count = min(count, values.size)
    return float(np.partition(values, values.size - count)[values.size - count])


def _largest_part(anatomy: Anatomy, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    full = np.zeros(anatomy.grid.shape, bool)
    full[anatomy.brain] = chosen
    labels, _ = ndimage.label(full)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = labels == sizes.argmax()
    return largest


def ramp(depth: NDArray[np.floating[Any]]) -> Array:
    """0 to 1 across about two millimetres around depth 0."""
    ramp: Array = (1.0 / (1.0 + np.exp(-np.clip(2.5 * depth, -40.0, 40.0)))).astype(np.float32)
    return ramp
