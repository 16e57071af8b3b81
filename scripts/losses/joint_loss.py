"""Several objectives of pretraining at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["JointLoss"]


class JointLoss(nn.Module):
    """The weighted sum of the objectives that are given.

    Args:
        maps: `MapLoss`, of what `MapHead` finds.
        voxels: `VoxelContrast`, of what `VoxelProjectors` find.
        contrastive: `NTXentLoss` or another loss of embeddings of whole views.
        maps_weight: factor on the first.
        voxels_weight: factor on the second.
        contrastive_weight: factor on the third.

    Raises:
        InputError: there is no objective.

    Examples:
        >>> import torch
        >>> from scripts.losses import MapLoss, NTXentLoss
        >>> pred = {"maps": torch.zeros(4, 4, 2, 2, 2), "embedding": torch.ones(4, 3)}
        >>> targets = {"maps": torch.ones(4, 4, 2, 2, 2), "mask": torch.ones(4, 1, 2, 2, 2) > 0}
        >>> found = JointLoss(MapLoss(), contrastive=NTXentLoss(), contrastive_weight=0.5)(pred, targets)
        >>> {name: round(value.item(), 4) for name, value in found.items()}  # 1 and log(3)
        {'loss': 1.5493, 'maps_l1': 1.0, 'maps_gradient': 0.0, 'contrastive': 1.0986}
    """

    def __init__(
        self,
        maps: nn.Module | None = None,
        voxels: nn.Module | None = None,
        contrastive: nn.Module | None = None,
        *,
        maps_weight: float = 1.0,
        voxels_weight: float = 1.0,
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if maps is None and voxels is None and contrastive is None:
            raise InputError("loss: there is no objective; give it maps, voxels or contrastive")
        self.maps = maps
        self.voxels = voxels
        self.contrastive = contrastive
        self.weights = {"maps": maps_weight, "voxels": voxels_weight, "contrastive": contrastive_weight}

    def forward(self, pred: Mapping[str, Any], targets: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return ``loss``, the terms of the maps, ``voxels`` and ``contrastive``, those of the global batch.

        Args:
            pred: what `PretrainUNet` returns.
            targets: what `PrepareVoxelViews` or, without voxels, `PrepareMapViews` returns.
        """
        parts: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if self.maps is not None:
            found = self.maps(pred, targets)
            parts.append(self.weights["maps"] * found["loss"])
            terms.update({name: value for name, value in found.items() if name != "loss"})
        if self.voxels is not None:
            terms["voxels"] = self.voxels(pred["voxels"], targets)
            parts.append(self.weights["voxels"] * terms["voxels"])
        if self.contrastive is not None:
            terms["contrastive"] = self.contrastive(pred["embedding"])
            parts.append(self.weights["contrastive"] * terms["contrastive"])
        total = sum(parts[1:], start=parts[0])
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}
