"""Where a voxel of a head that is made from a label map lies in that map: a smooth deformation, new for each head."""

from __future__ import annotations

import numpy as np

from scripts.cohort.anatomy import NODE, Shape, integrate, rotation
from scripts.cohort.label_maps import LabelMap
from scripts.cohort.lattice import Box, Grid, Lattice, brain_grid, lattice_axes, sample_lattice, white_lattice

__all__ = ["BOX", "CENTRE", "draw_deformation", "label_grid"]

CENTRE = (0.0, -18.0, 6.0)
"""World coordinates [mm] of the middle of every brain, about those of MNI space."""

BOX: Box = ((-104.0, -152.0, -152.0), (208.0, 268.0, 264.0))
"""What the fields of such a head cover: the head with its neck."""

_VELOCITY = ((45.0, 3.0), (25.0, 1.8), (12.0, 0.6))  # control spacing, standard deviation [mm], lobes to gyri
_MILD = 0.25  # of all that, for a person's first head


def label_grid(spacing: float, *, whole_head: bool) -> Grid:
    """Return the grid of such a head at ``spacing`` [mm], of the brain or of the whole head.

    Raises:
        InputError: if the spacing lies outside 0.7 to 8 mm.
    """
    brain = brain_grid(spacing)
    if not whole_head:
        return brain
    low, size = BOX
    counts = [int(np.ceil(length / spacing)) for length in size]
    return Grid((counts[0], counts[1], counts[2]), spacing, low)


def draw_deformation(person: LabelMap, rng: np.random.Generator, *, mild: bool) -> Shape:
    """Return the map from a new head's world [mm] to the voxels of a label map.

    Size, shear, a tilt, a flip of left and right in every second head, and a diffeomorphism; a mild one is a quarter
    of that and never flipped, so that a person's first head is the person.
    """
    amount = _MILD if mild else 1.0
    flip = -1.0 if rng.random() < 0.5 and not mild else 1.0
    scale = np.exp(amount * rng.normal(0.0, 0.03, 3).clip(-0.06, 0.06)) * (flip, 1.0, 1.0)
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = amount * rng.normal(0.0, 0.02, 3)
    turn = rotation(amount * np.deg2rad(rng.normal(0.0, (4.0, 2.5, 2.5))))
    matrix = np.diag(1.0 / np.array(person.spacing)) @ turn @ shear @ np.diag(scale)
    affine = np.column_stack([matrix, person.centre - matrix @ np.array(CENTRE)])
    axes = lattice_axes(NODE, BOX)
    velocity = np.zeros((3, *(len(axis) for axis in axes)), np.float32)
    for spacing, deviation in _VELOCITY:
        field = sample_lattice(white_lattice(rng, spacing, 3, BOX), axes)
        velocity += np.float32(amount * deviation) * field
    return Shape(affine, Lattice(integrate(velocity), NODE, BOX), atrophy=0.0)
