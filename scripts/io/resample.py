"""Bringing a volume to the voxel grid of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from torch import Tensor

__all__ = ["is_same_grid", "to_grid", "voxel_sizes"]


def to_grid(
    volume: MetaTensor, affine: Any, shape: Sequence[int], mode: Literal["nearest", "bilinear"] = "bilinear"
) -> MetaTensor:
    """Return ``volume`` on another grid of the same world; 0 outside its own extent.

    Args:
        volume: (C, I, J, K) with its voxel-to-world matrix in `MetaTensor.affine`.
        affine: (4, 4) voxel to world of the grid wanted [mm].
        shape: (3,) its voxels.
        mode: ``nearest`` for labels, ``bilinear`` (that is, trilinear) for intensities.

    Returns:
        (C, *shape) of the dtype of ``volume``; ``volume`` itself where the grids are the same.
    """
    wanted = torch.as_tensor(np.asarray(affine, dtype=np.float64))
    if is_same_grid(volume, wanted, shape):
        return volume
    # align_corners=True would mistake a grid of one slice, and differs in nothing else
    resample = SpatialResample(mode=mode, padding_mode="zeros", align_corners=False, dtype=torch.float32)
    moved = resample(volume.float(), dst_affine=wanted, spatial_size=tuple(int(n) for n in shape))
    if mode == "nearest":
        moved = moved.round()
    return moved.to(volume.dtype)


def is_same_grid(volume: MetaTensor, affine: Tensor, shape: Sequence[int], tolerance: float = 1e-3) -> bool:
    """Tell whether ``volume`` (C, I, J, K) lies on a grid, its corners within ``tolerance`` mm."""
    if tuple(volume.shape[1:]) != tuple(shape):
        return False
    ends = [(i, j, k, 1) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    corners = torch.tensor(ends, dtype=torch.float64)
    corners[:, :3] *= torch.tensor(tuple(shape), dtype=torch.float64) - 1
    apart = corners @ (volume.affine.double().cpu() - affine.double()).T
    return float(apart.norm(dim=1).max()) < tolerance


def voxel_sizes(affine: Any) -> tuple[float, float, float]:
    """Return the sides of a voxel [mm] of a grid with this (4, 4) affine."""
    sides = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(sides[0]), float(sides[1]), float(sides[2])
