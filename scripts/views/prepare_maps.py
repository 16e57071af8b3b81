"""Views and the maps that they show, where MONAI's engines prepare a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scripts.ranks import rank
from scripts.views.map_targets import standardise_maps
from scripts.views.prepare_batch import PrepareViews

__all__ = ["PrepareMapViews"]


class PrepareMapViews(PrepareViews):
    """Turn a batch of map regions into views and what a network shall find in them.

    Args:
        views: generator of the views.
        seed: of the views, where it is not that of the generator.

    Examples:
        >>> from scripts.views import ViewGenerator
        >>> maps = torch.tensor([70.0, 0.9, 17.0, 1.55]).view(1, 4, 1, 1, 1).expand(2, 4, 20, 20, 20)
        >>> batch = {"maps": maps, "step": torch.zeros(2)}
        >>> image, targets = PrepareMapViews(ViewGenerator(patch_size=16))(batch, "cpu")
        >>> {name: tuple(target.shape) for name, target in targets.items()}
        {'target': (4, 1, 16, 16, 16), 'maps': (4, 4, 16, 16, 16), 'mask': (4, 1, 16, 16, 16)}
    """

    def __call__(  # type: ignore[override]
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the views (N, 1, P, P, P) of a batch of `scripts.data.RegionDataset`, N = V * B, and their targets.

        These are ``target``, the views before corruption; ``maps`` (N, 4, P, P, P), standardised (`standardise_maps`);
        and ``mask`` (N, 1, P, P, P) boolean, where the warped PD is above 0: the head, or what the data hold of it.
        """
        maps = batch["maps"].to(device, non_blocking=non_blocking)
        views = self.views(maps, step=int(batch["step"][0]), rank=rank(), with_maps=True)
        targets = {"target": views["target"], "maps": standardise_maps(views["maps"]), "mask": views["maps"][:, :1] > 0}
        return views["image"], targets
