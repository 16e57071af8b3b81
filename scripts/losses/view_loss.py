"""What all losses on embeddings of several views share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.losses.gather import gather_views

__all__ = ["ViewLoss", "widen"]


class ViewLoss(nn.Module):
    """Base of the losses on embeddings: the global batch, in float32 also under autocast.

    Args:
        n_views: views of each anatomy, V >= 2.

    Raises:
        InputError: fewer than two views.

    Examples:
        >>> class Spread(ViewLoss):
        ...     def compare(self, views):
        ...         return (views[0] - views[1]).abs().mean()
        >>> Spread()(torch.tensor([[1.0], [2.0], [4.0], [5.0]]))  # views of an anatomy differ by 3
        tensor(3.)
    """

    def __init__(self, n_views: int = 2) -> None:
        super().__init__()
        if n_views < 2:
            raise InputError(f"n_views: a loss between views needs 2 or more, got {n_views}")
        self.n_views = n_views

    def forward(self, z: Tensor) -> Tensor:
        """Return the loss of view-major embeddings: row v * B + b of (V * B, D) is view v of anatomy b.

        Every rank returns the loss of the global batch, with gradients that DDP averages to the right ones.

        Raises:
            InputError: rows that do not divide into the views, or one anatomy in the global batch.
        """
        with torch.autocast(z.device.type, enabled=False):
            return self.compare(gather_views(widen(z), self.n_views))

    @abstractmethod
    def compare(self, views: Tensor) -> Tensor:
        """Return the scalar loss of the global batch's embeddings (V, B, D)."""


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is where it is float64.

    Examples:
        >>> widen(torch.ones(1, dtype=torch.float16)).dtype, widen(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return x if x.dtype == torch.float64 else x.float()
