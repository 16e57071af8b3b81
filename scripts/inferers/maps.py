"""Maps of a whole head, in their units, from overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scripts.inferers.head_windows import HeadWindowInferer
from scripts.views.map_targets import MAP_CLIP, MAP_SCALES, restore_maps

__all__ = ["MapInferer", "maps_in_units"]


def maps_in_units(found: Mapping[str, Tensor]) -> Tensor:
    """Return maps, and where it is known their uncertainty, in the units of the maps.

    Args:
        found: ``maps`` (N, 4, I, J, K), standardised (`scripts.views.map_targets`), and maybe ``log_scale`` likewise,
            the logarithm of the scale b of a Laplace distribution around them.

    Returns:
        (N, 4 or 8, I, J, K): PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.], none below 0; then b of each of them, the
        mean absolute error that the network expects, at most the distance of the furthest targets.
    """
    maps = restore_maps(found["maps"]).clamp(min=0)
    if "log_scale" not in found:
        return maps
    unit = torch.tensor(MAP_SCALES, device=maps.device, dtype=maps.dtype).view(1, -1, 1, 1, 1)
    scale = found["log_scale"].clamp(max=math.log(2 * MAP_CLIP)).exp()
    return torch.cat([maps, scale * unit], dim=1)


class MapInferer(HeadWindowInferer):
    """`HeadWindowInferer` for a network that gives the dictionary of `scripts.networks.MapHead`: see `maps_in_units`.

    Scales of overlapping windows are averaged as the maps are. ``fill`` is 0 of each channel, as maps are in air.
    """

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, head: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """Return (N, 4 or 8, I, J, K) of images (N, 1, I, J, K); see `HeadWindowInferer`."""
        return super().__call__(inputs, partial(_run, network), *args, head=head, **kwargs)


def _run(network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    return maps_in_units(network(*args, **kwargs))
