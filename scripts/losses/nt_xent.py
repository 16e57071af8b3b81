"""The contrastive loss of the paper: NT-Xent."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scripts.errors import InputError
from scripts.losses.view_loss import ViewLoss

__all__ = ["NTXentLoss"]


class NTXentLoss(ViewLoss):
    r"""Normalised temperature-scaled cross entropy (NT-Xent) over two or more views of each anatomy.

    With s_ij the cosine similarity of rows i and j, P(i) the other views of the anatomy of i and N(i) the
    rows of all other anatomies, L is the mean over all i and all p in P(i) of

        -log [ exp(s_ip / t) / (exp(s_ip / t) + sum_{n in N(i)} exp(s_in / t)) ].

    The other positives of i stand in neither place, so no positive is pushed away. For two views this is the
    loss of SimCLR and `monai.losses.ContrastiveLoss`; identical embeddings give log(1 + V (B - 1)), for two
    views log(2B - 1).

    Args:
        temperature: t; 0.5 in the paper.
        n_views: V.

    Raises:
        InputError: temperature not positive, or fewer than two views.

    References:
        Chen et al. 2020, A simple framework for contrastive learning of visual representations,
        arXiv:2002.05709.

    Examples:
        >>> round(NTXentLoss()(torch.ones(8, 3)).item(), 4)  # log(7), identical embeddings of 4 anatomies
        1.9459
    """

    def __init__(self, temperature: float = 0.5, n_views: int = 2) -> None:
        super().__init__(n_views)
        if not temperature > 0:
            raise InputError(f"temperature: must be positive, got {temperature}")
        self.temperature = temperature

    def compare(self, views: Tensor) -> Tensor:
        """Return the scalar loss of embeddings (V, B, D)."""
        n_views, n_anatomies = views.shape[:2]
        rows = F.normalize(views.flatten(0, 1), dim=1, eps=1e-8)
        logits = rows @ rows.T / self.temperature
        anatomy = torch.arange(n_anatomies, device=views.device).repeat(n_views)
        same = anatomy[:, None] == anatomy[None, :]
        negatives = logits.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
        positive = same & ~torch.eye(len(rows), dtype=torch.bool, device=views.device)
        # -log(e^s / (e^s + e^n)) = softplus(n - s), which neither over- nor underflows
        return F.softplus(negatives - logits)[positive].mean()
