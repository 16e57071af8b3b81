"""Views where MONAI's engines prepare a batch."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from scripts.ranks import rank
from scripts.views.generator import ViewGenerator

__all__ = ["PrepareViews"]


class PrepareViews:
    """Turn a batch of map regions into views on the device: the ``prepare_batch`` of trainer and evaluator.

    Args:
        views: generator of the views.
        seed: of the views, where it is not that of the generator.

    Examples:
        >>> maps = torch.tensor([70.0, 0.95, 21.0, 1.5]).view(1, 4, 1, 1, 1).expand(2, 4, 20, 20, 20)
        >>> image, target = PrepareViews(ViewGenerator(patch_size=16))({"maps": maps, "step": torch.zeros(2)}, "cpu")
        >>> tuple(image.shape), tuple(target.shape)
        ((4, 1, 16, 16, 16), (4, 1, 16, 16, 16))
    """

    def __init__(self, views: ViewGenerator, seed: int | None = None) -> None:
        self.views = views
        if seed is not None:
            self.views = copy.copy(views)
            self.views.seed = seed

    def __call__(
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return image and target, each (V * B, 1, P, P, P), of a batch of `scripts.data.RegionDataset`."""
        maps = batch["maps"].to(device, non_blocking=non_blocking)
        views = self.views(maps, step=int(batch["step"][0]), rank=rank())
        return views["image"], views["target"]
