"""Bringing brain maps to voxels of one size, without their background of 0 running into the brain's edge."""

from __future__ import annotations

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.io.resample import to_grid, voxel_sizes

__all__ = ["resample_maps", "spaced_grid"]


def resample_maps(
    maps: NDArray[np.float32], brain: NDArray[np.bool_], affine: NDArray[np.float64], spacing: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]:
    """Return maps, brain and affine on isotropic voxels: trilinear, of the brain's voxels alone.

    At the edge, where some of the eight voxels around a point lie outside the brain, the others' weights are
    scaled to a sum of 1. The mask goes by the nearest voxel.

    Args:
        maps: (C, I, J, K).
        brain: (I, J, K).
        affine: (4, 4) voxel to world [mm].
        spacing: side of the new voxels [mm]; where it is theirs already, all is returned as it is.
    """
    target, shape = spaced_grid(affine, brain.shape, spacing)
    if shape == brain.shape and np.allclose(target, affine, atol=1e-4):
        return maps, brain, affine
    matrix = torch.from_numpy(affine)
    weights = MetaTensor(torch.from_numpy(brain[None].astype(np.float32)), affine=matrix)
    inside = to_grid(weights, target, shape, "nearest").numpy()[0] > 0.5
    share = to_grid(weights, target, shape).numpy()[0]
    inside &= share > 0
    done = np.zeros((len(maps), *shape), dtype=np.float32)
    for channel, values in enumerate(maps):
        volume = MetaTensor(torch.from_numpy((values * brain)[None].astype(np.float32)), affine=matrix)
        moved = to_grid(volume, target, shape).numpy()[0]
        np.divide(moved, share, out=done[channel], where=inside)
    return done, inside, target


def spaced_grid(
    affine: NDArray[np.float64], shape: tuple[int, ...], spacing: float
) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Return the affine (4, 4) and shape of the grid of other voxels that covers one about the same centre.

    Args:
        affine: (4, 4) voxel to world [mm].
        shape: (3,) voxels.
        spacing: side of the new voxels [mm].
    """
    sizes = np.array(voxel_sizes(affine))
    counts = np.maximum(1, np.ceil(np.array(shape) * sizes / spacing - 1e-3).astype(int))
    target = np.eye(4)
    target[:3, :3] = affine[:3, :3] / sizes * spacing
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    target[:3, 3] = centre - target[:3, :3] @ ((counts - 1) / 2)
    return target, tuple(int(n) for n in counts)
