"""What a MONAI trainer wants of a loss that has several terms."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["TrackedLoss"]


class TrackedLoss(nn.Module):
    """A loss of several terms, as the scalar that a MONAI trainer wants; the terms stay readable.

    Args:
        loss: maps (prediction, target) to a dict of scalars with the key ``loss``.

    Examples:
        >>> import torch
        >>> from scripts.losses import DenoisingLoss
        >>> tracked = TrackedLoss(DenoisingLoss())
        >>> tracked(torch.zeros(1, 1, 2), torch.ones(1, 1, 2)), tracked.terms
        (tensor(1.), {'loss': tensor(1.)})
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.terms: dict[str, Tensor] = {}

    def forward(self, prediction: dict[str, Tensor], target: Tensor) -> Tensor:
        """Return the total; `terms` then holds every term of this call, detached."""
        terms: dict[str, Tensor] = self.loss(prediction, target)
        self.terms = {name: value.detach() for name, value in terms.items()}
        return terms["loss"]
