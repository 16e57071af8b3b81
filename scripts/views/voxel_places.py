"""Which places of an anatomy a voxel-wise loss compares, and how views of one geometry are cut apart for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["VoxelPlaces", "crop_views", "draw_places"]


@dataclass(frozen=True)
class VoxelPlaces:
    """K places in each of B anatomies.

    Attributes:
        position: (B, K, 3) whole numbers [voxels of the frame that the views are cut out of], float32.
        valid: (B, K) boolean; False where an anatomy has fewer than K voxels of head.
    """

    position: Tensor
    valid: Tensor


def draw_places(
    head: Tensor, first: Tensor, last: Tensor, side: int, n: int, generator: torch.Generator
) -> VoxelPlaces:
    """Draw voxels of the head in a box around one of them, evenly and each at most once.

    Args:
        head: (B, 1, W, W, W) boolean.
        first: (B, 3) first voxel of what all views of an anatomy show.
        last: (B, 3) its last voxel.
        side: of the box [voxels]; where it is larger than what all views show, it is that.
        n: voxels of each anatomy, K; where the frame has fewer, all of them.
        generator: the only source of randomness, on the device of ``head``.

    Examples:
        The upper half of what the views show is head, and a box of two voxels holds eight of them:

        >>> head = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
        >>> head[:, :, 4:] = True
        >>> first, last = torch.tensor([[2, 2, 2]]), torch.tensor([[5, 5, 5]])
        >>> places = draw_places(head, first, last, 2, 9, torch.Generator().manual_seed(0))
        >>> places.valid.sum().item(), places.position[places.valid][:, 0].unique().tolist()
        (8, [4.0, 5.0])
    """
    width = head.shape[-1]
    shown = head[:, 0] & _within(first, last, width)
    centre = _pick(shown, 1, generator)[0][:, 0]
    drawn = torch.rand((len(head), 3), generator=generator, device=head.device)
    room = torch.maximum(last - side + 1, first)
    low = torch.minimum(torch.maximum(centre - (drawn * side).floor().long(), first), room)
    position, valid = _pick(shown & _within(low, low + side - 1, width), n, generator)
    return VoxelPlaces(position.float(), valid)


def crop_views(views: Tensor, offset: Tensor, side: int) -> Tensor:
    """Return the part of each view that begins at its own offset: (N, C, W, W, W) -> (N, C, side, side, side).

    Args:
        views: of one geometry, W voxels wide.
        offset: (N, 3) integers on the CPU, 0 to W - side.
        side: [voxels].

    Examples:
        >>> crop_views(torch.arange(8.0).view(1, 1, 2, 2, 2), torch.tensor([[1, 0, 1]]), 1).item()
        5.0
    """
    parts = [
        view[:, i : i + side, j : j + side, k : k + side]
        for view, (i, j, k) in zip(views, offset.tolist(), strict=True)
    ]
    return torch.stack(parts)


def _within(first: Tensor, last: Tensor, width: int) -> Tensor:
    """Where a box lies, (B, W, W, W) boolean, of its first and last voxels (B, 3)."""
    at = torch.arange(width, device=first.device)
    i, j, k = ((at >= first[:, axis, None]) & (at <= last[:, axis, None]) for axis in range(3))
    return i[:, :, None, None] & j[:, None, :, None] & k[:, None, None, :]


def _pick(among: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return positions (B, n, 3) of random voxels of a mask (B, W, W, W), and which of them are of it (B, n)."""
    width, flat = among.shape[-1], among.flatten(1)
    score = torch.rand(flat.shape, generator=generator, device=among.device)
    score, index = torch.where(flat, score, score - 1).topk(min(n, flat.shape[1]), dim=1)
    return torch.stack([index // width**2, index // width % width, index % width], dim=-1), score >= 0
