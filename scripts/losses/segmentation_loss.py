"""The loss of segmentation: Dice and cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["SegmentationLoss"]


class SegmentationLoss(nn.Module):
    """Sum of soft Dice loss over the foreground classes and cross-entropy over all (paper, Appendix B.1).

    Both are means over the samples of a batch, so that the loss of a batch is the mean of the losses of its
    parts, whatever process holds them.

    Args:
        n_classes: with the background.
        weight: of each class in the cross-entropy, None for equal ones; a voxel's loss is multiplied by the
            weight of its true class and the weights of a sample's voxels are scaled to a mean of 1. A sample
            whose voxels all have weight 0 adds 0.

    Examples:
        A network that knows nothing of four classes has a cross-entropy of log(4):

        >>> found = SegmentationLoss(4)(torch.zeros(1, 4, 2, 2, 2), torch.ones(1, 1, 2, 2, 2))
        >>> round(found["cross_entropy"].item(), 4)
        1.3863
    """

    def __init__(self, n_classes: int, weight: Sequence[float] | None = None) -> None:
        super().__init__()
        if weight is not None and (len(weight) != n_classes or min(weight) < 0 or max(weight) == 0):
            raise InputError(
                f"class_weight={list(weight)}: give {n_classes} numbers, background first, none below 0, not all 0"
            )
        self.dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=False)
        self.weight = None if weight is None else torch.tensor(weight, dtype=torch.float32)

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return ``loss``, ``dice`` and ``cross_entropy`` of logits (N, C, ...) and labels (N, 1, ...)."""
        labels = labels.long()
        dice = self.dice(logits.float(), labels)
        weight = self.weight.to(logits.device) if self.weight is not None else None
        parts = [_cross_entropy(one.float(), label[0], weight) for one, label in zip(logits, labels, strict=True)]
        cross_entropy = torch.stack(parts).mean()
        return {"loss": dice + cross_entropy, "dice": dice, "cross_entropy": cross_entropy}


def _cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean over the voxels of one sample, logits (C, ...) and labels (...)."""
    if weight is None:
        return F.cross_entropy(logits[None], labels[None])
    total = F.cross_entropy(logits[None], labels[None], weight=weight, reduction="sum")
    # torch's own mean is 0 / 0 where every voxel has weight 0, such as a patch without lesion
    return total / weight[labels].sum().clamp_min(torch.finfo(torch.float32).tiny)
