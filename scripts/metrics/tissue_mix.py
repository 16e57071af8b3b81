"""Tissue mix of the cells of a feature map, from quantitative maps."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError

__all__ = ["TISSUES", "brain_share", "tissue_fractions"]

TISSUES: Final = ("GM", "WM", "CSF")
"""Order of the tissues in the result of `tissue_fractions`."""

_R1_THRESHOLDS: Final = (0.4, 0.78)
"""R1 [1/s] at 3 T that parts CSF (about 0.24) from GM (0.62), and GM from WM (0.95)."""


def tissue_fractions(maps: Tensor, cells: int | tuple[int, int, int] = 1) -> Tensor:
    """Return which share of each cell's brain voxels is GM, WM and CSF, judged by R1 at 3 T.

    A voxel with PD > 0 is CSF where R1 < 0.4 1/s, GM from there to 0.78 1/s, WM above; a voxel with PD = 0
    is background and not counted.

    Args:
        maps: (B, C, I, J, K) with PD and R1 [1/s] as the first two channels.
        cells: cells along each axis; 1 takes the volume as one cell.

    Returns:
        (B, 3, cells, cells, cells) in the order of `TISSUES`, float32; sums to 1 over the tissues in a cell
        that holds brain, and is 0 in a cell that holds none.

    Raises:
        InputError: maps are not 5-dimensional with PD and R1, or the cells do not divide the volume.

    Examples:
        Three voxels of grey and one of white matter beside four of air:

        >>> pd, r1 = [80.0, 80, 80, 70, 0, 0, 0, 0], [0.62, 0.62, 0.62, 0.95, 0, 0, 0, 0]
        >>> tissue_fractions(torch.tensor([pd, r1]).view(1, 2, 2, 2, 2)).flatten().tolist()
        [0.75, 0.25, 0.0]
    """
    grid = _grid(maps, cells)
    pd, r1 = maps[:, 0], maps[:, 1]
    csf, white = r1 < _R1_THRESHOLDS[0], r1 > _R1_THRESHOLDS[1]
    classes = torch.stack([~csf & ~white, white, csf], dim=1) & (pd > 0)[:, None]
    pooled = F.adaptive_avg_pool3d(classes.float(), grid)
    brain = pooled.sum(dim=1, keepdim=True)
    return torch.where(brain > 0, pooled / brain.clamp(min=torch.finfo(pooled.dtype).tiny), 0.0)


def brain_share(maps: Tensor, cells: int | tuple[int, int, int] = 1) -> Tensor:
    """Return which share of each cell is brain (PD > 0), (B, cells, cells, cells).

    Arguments and errors as in `tissue_fractions`. Cells of the brain are commonly those of at least one half.

    Examples:
        >>> maps = torch.tensor([80.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 2, 2, 2, 2)
        >>> brain_share(maps, (2, 1, 1)).flatten().tolist()
        [1.0, 0.0]
    """
    grid = _grid(maps, cells)
    return F.adaptive_avg_pool3d((maps[:, :1] > 0).float(), grid)[:, 0]


def _grid(maps: Tensor, cells: int | tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the number of cells along each axis, after checking that they divide ``maps``."""
    if maps.ndim != 5 or maps.shape[1] < 2:
        msg = f"maps must be (B, C, I, J, K) with PD and R1 first, got shape {tuple(maps.shape)}"
        raise InputError(msg)
    grid = (cells, cells, cells) if isinstance(cells, int) else cells
    size = tuple(maps.shape[2:])
    if any(n < 1 or length % n for n, length in zip(grid, size, strict=True)):
        msg = f"{grid} cells do not divide maps of {size} voxels: crop or pad the maps to a multiple"
        raise InputError(msg)
    return grid
