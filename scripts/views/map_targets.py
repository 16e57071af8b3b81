"""Quantitative maps as targets of a regression, in units that make them alike."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MAP_CLIP", "MAP_MEANS", "MAP_NAMES", "MAP_SCALES", "restore_maps", "standardise_maps"]

MAP_NAMES = ("pd", "r1", "r2star", "mtsat")
"""The maps, in the order of their channels."""

MAP_MEANS = (80.0, 0.7, 17.0, 0.95)
"""What is taken off each map: PD [p.u.], R1 [1/s], R2* [1/s], MTsat [p.u.] of a brain at 3 T, rounded."""

MAP_SCALES = (10.0, 0.2, 6.0, 0.4)
"""What each map is then divided by, in its unit: about its standard deviation over a brain with its fluid."""

MAP_CLIP = 6.0
"""Largest distance of a target from 0: fat (R1 of 2.3 1/s), bone (R2* of 90 1/s) and voxels that a fit missed do not
outweigh the brain."""


def standardise_maps(maps: Tensor) -> Tensor:
    """Return maps as `MAP_MEANS`, `MAP_SCALES` and `MAP_CLIP` say, without a unit.

    Args:
        maps: (N, 4, ...) PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.].

    Returns:
        (N, 4, ...), of the type of ``maps``; where these are 0, it is -6, -3.5, -2.83 and -2.375.

    Examples:
        White matter at 3 T, and fat's short T1:

        >>> maps = torch.tensor([[70.0, 0.9, 23.0, 1.55], [65.0, 2.3, 17.0, 0.15]])
        >>> standardise_maps(maps).round(decimals=3).tolist()
        [[-1.0, 1.0, 1.0, 1.5], [-1.5, 6.0, 0.0, -2.0]]
    """
    known = zip(maps.unbind(1), MAP_MEANS, MAP_SCALES, strict=True)
    return torch.stack([(one - mean) / scale for one, mean, scale in known], dim=1).clamp_(-MAP_CLIP, MAP_CLIP)


def restore_maps(values: Tensor) -> Tensor:
    """Return the maps (N, 4, ...) in their units that `standardise_maps` makes ``values`` of.

    Examples:
        >>> restore_maps(torch.tensor([[-1.0, 1.0, 1.0, 1.5]]))
        tensor([[70.0000,  0.9000, 23.0000,  1.5500]])
    """
    known = zip(values.unbind(1), MAP_MEANS, MAP_SCALES, strict=True)
    return torch.stack([one * scale + mean for one, mean, scale in known], dim=1)
