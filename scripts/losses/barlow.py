"""Barlow Twins, an alternative to the contrastive loss without negatives."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from scripts.losses.view_loss import ViewLoss

__all__ = ["BarlowLoss"]


class BarlowLoss(ViewLoss):
    """Barlow Twins: the cross-correlation of two views' features should be the identity.

    With C = A^T B / n for features A, B standardised over the batch of n anatomies (population deviation),
    L = sum_i (1 - C_ii)^2 + lambda * sum_{i != j} C_ij^2; with more than two views the mean over all pairs.
    (`monai.losses.BarlowTwinsLoss` divides by n after standardising with n - 1, so its C_ii stays below 1.)

    Args:
        off_diagonal: lambda.
        scale: factor on the whole loss; 1 over the embedding's length keeps it near the size of an L1 term.
        n_views: V.

    References:
        Zbontar et al. 2021, Barlow twins: self-supervised learning via redundancy reduction,
        arXiv:2103.03230.

    Examples:
        Views that agree, with two features that say the same: C is 1 everywhere, so 2 lambda is left.

        >>> z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).repeat(2, 1)  # two views of two anatomies
        >>> round(BarlowLoss(off_diagonal=5e-3)(z).item(), 4)
        0.01
    """

    def __init__(self, off_diagonal: float = 5e-3, scale: float = 1.0, n_views: int = 2) -> None:
        super().__init__(n_views)
        self.off_diagonal = off_diagonal
        self.scale = scale

    def compare(self, views: Tensor) -> Tensor:
        """Return the scalar loss of embeddings (V, B, D)."""
        centred = views - views.mean(1, keepdim=True)
        standard = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        pairs = [self._pair(standard[a], standard[b]) for a, b in combinations(range(len(views)), 2)]
        return self.scale * torch.stack(pairs).mean()

    def _pair(self, a: Tensor, b: Tensor) -> Tensor:
        correlation = a.T @ b / len(a)
        diagonal = correlation.diagonal()
        off = correlation.square().sum() - diagonal.square().sum()
        return (1 - diagonal).square().sum() + self.off_diagonal * off
