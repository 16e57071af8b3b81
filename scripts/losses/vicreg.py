"""VICReg, an alternative to the contrastive loss without negatives."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from scripts.losses.view_loss import ViewLoss

__all__ = ["VICRegLoss"]


class VICRegLoss(ViewLoss):
    """Variance-invariance-covariance regularisation, after Algorithm 1 of the paper that proposed it.

    For views A, B of n anatomies with D features
    L = mu v(A) + mu v(B) + lambda mean((A - B)^2) + nu c(A) + nu c(B), where
    v(Z) = mean over features of max(0, 1 - sqrt(Var + 1e-4)) and c(Z) = 1/D sum of the squared off-diagonal
    covariances, both with n - 1; with more than two views the mean over all pairs.

    Args:
        invariance: lambda.
        variance: mu.
        covariance: nu.
        n_views: V.

    References:
        Bardes, Ponce, LeCun 2022, VICReg: variance-invariance-covariance regularization for self-supervised
        learning, arXiv:2105.04906.

    Examples:
        Features that collapsed to one point agree, but pay 2 mu (1 - 0.01) for their lack of variance:

        >>> round(VICRegLoss(variance=25.0)(torch.ones(8, 3)).item(), 4)
        49.5
    """

    def __init__(
        self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0, n_views: int = 2
    ) -> None:
        super().__init__(n_views)
        self.invariance = invariance
        self.variance = variance
        self.covariance = covariance

    def compare(self, views: Tensor) -> Tensor:
        """Return the scalar loss of embeddings (V, B, D)."""
        pairs = combinations(range(len(views)), 2)
        distance = torch.stack([F.mse_loss(views[a], views[b]) for a, b in pairs]).mean()
        deviation = (views.var(1) + 1e-4).sqrt()
        spread = F.relu(1 - deviation).mean()
        centred = views - views.mean(1, keepdim=True)
        covariance = centred.transpose(1, 2) @ centred / (views.shape[1] - 1)
        diagonal = covariance.diagonal(dim1=1, dim2=2)
        redundancy = (covariance.square().sum() - diagonal.square().sum()) / (len(views) * views.shape[2])
        # each view's own terms count once per side of a pair, so twice in the mean over pairs
        return self.invariance * distance + 2 * (self.variance * spread + self.covariance * redundancy)
