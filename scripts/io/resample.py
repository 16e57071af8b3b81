"""Bringing a volume to another voxel grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["is_same_grid", "onto", "to_grid", "voxel_sizes"]

_TOLERANCE = 0.01  # voxels


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


def onto(volume: MetaTensor, affine: Any, shape: Sequence[int], mode: Literal["nearest", "bilinear"]) -> Tensor:
    """Return ``volume`` on another grid, where it may lie in other axes; 0 outside its own extent.

    Where the voxels of both grids coincide (axes swapped, flipped or cut), values are moved and none is changed.

    Args:
        volume: (C, I, J, K) with its voxel-to-world matrix in `MetaTensor.affine`.
        affine: (4, 4) voxel to world of the grid wanted [mm].
        shape: (3,) its voxels.
        mode: how values are interpolated where they have to be.

    Returns:
        (C, *shape) of the dtype of ``volume``, on the CPU.
    """
    values = volume.detach().as_subclass(Tensor).cpu()
    own = volume.affine.double().cpu().numpy()
    between = np.linalg.inv(own) @ np.asarray(affine, dtype=np.float64)
    turn, shift = np.rint(between[:3, :3]), np.rint(between[:3, 3])
    ends = np.array([(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(shape) - 1)
    apart = np.abs(ends @ (between[:3, :3] - turn).T + between[:3, 3] - shift).max()
    if apart < _TOLERANCE and np.array_equal(turn @ turn.T, np.eye(3)):
        return _moved(values, turn.astype(int), shift.astype(int), tuple(shape))
    parts = [to_grid(MetaTensor(part[None], affine=own), affine, shape, mode) for part in values]
    return torch.cat([part.as_subclass(Tensor) for part in parts])


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


def _moved(values: Tensor, turn: NDArray[Any], shift: NDArray[Any], shape: tuple[int, ...]) -> Tensor:
    """Return values (C, I, J, K) with voxel ``turn @ x + shift`` at voxel x of a grid of ``shape``, else 0."""
    axes = np.abs(turn).argmax(axis=0)
    signs = turn[axes, range(3)]
    values = values.permute(0, *(int(axis) + 1 for axis in axes))
    values = values.flip([axis + 1 for axis in range(3) if signs[axis] < 0])
    moved = values.new_zeros(len(values), *shape)
    there: list[slice] = [slice(None)]
    here: list[slice] = [slice(None)]
    for axis, n in enumerate(values.shape[1:]):
        offset = int(shift[axes[axis]])
        first = -offset if signs[axis] > 0 else offset - (n - 1)
        start, stop = max(first, 0), max(min(first + n, shape[axis]), max(first, 0))
        there.append(slice(start, stop))
        here.append(slice(start - first, stop - first))
    moved[tuple(there)] = values[tuple(here)]
    return moved
