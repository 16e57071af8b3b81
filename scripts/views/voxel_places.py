"""Which voxels of a view a voxel-wise loss compares, at several resolutions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.errors import InputError

__all__ = ["VoxelPlaces", "draw_places", "stride_of"]


@dataclass(frozen=True)
class VoxelPlaces:
    """K places in each of B anatomies, at one resolution.

    Attributes:
        index: (B, K) integers, the cell among those of a feature map, the last axis varying fastest.
        position: (B, K, 3) its centre [voxels of the view].
        valid: (B, K) boolean; False where an anatomy has fewer than K cells in the head.
    """

    index: Tensor
    position: Tensor
    valid: Tensor


def draw_places(head: Tensor, stride: int, n: int, generator: torch.Generator) -> VoxelPlaces:
    """Draw cells that are at least half head, evenly and each at most once.

    Args:
        head: (B, 1, P, P, P) boolean.
        stride: voxels per cell along an axis; divides P.
        n: cells of each anatomy; where the feature map has fewer, all of them.
        generator: the only source of randomness, on the device of ``head``.

    Examples:
        Of eight cells, those of the upper half are head:

        >>> head = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
        >>> head[:, :, 2:] = True
        >>> places = draw_places(head, 2, 6, torch.Generator().manual_seed(0))
        >>> sorted(places.index[places.valid].tolist()), places.valid.sum().item(), places.position.min().item()
        ([4, 5, 6, 7], 4, 0.5)
    """
    share = F.avg_pool3d(head.float(), stride) if stride > 1 else head.float()
    side = share.shape[-1]
    share = share.flatten(1)
    score = torch.rand(share.shape, generator=generator, device=head.device)
    score, index = torch.where(share >= 0.5, score, score - 1).topk(min(n, share.shape[1]), dim=1)
    cell = torch.stack([index // side**2, index // side % side, index % side], dim=-1)
    return VoxelPlaces(index, (cell + 0.5) * stride - 0.5, score >= 0)


def stride_of(level: str, patch_size: int) -> int:
    """Return the voxels per cell of a level, which its name ends with.

    Raises:
        InputError: the name ends with no number, or with none that divides the patch.

    Examples:
        >>> stride_of("decoder_4", 96)
        4
    """
    number = level.rpartition("_")[2]
    if not number.isdecimal() or int(number) < 1 or patch_size % int(number):
        raise InputError(
            f"level {level!r}: give names such as decoder_1 or encoder_8, whose number divides a patch of {patch_size}"
        )
    return int(number)
