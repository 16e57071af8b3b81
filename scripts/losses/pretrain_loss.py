"""The loss of pretraining: a contrastive term plus an L1 reconstruction term."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from scripts.errors import InputError
from scripts.losses.gather import mean_over_ranks
from scripts.losses.view_loss import widen

__all__ = ["PretrainLoss"]


class PretrainLoss(nn.Module):
    """Contrastive loss on the embeddings plus L1 on the reconstructions, equally weighted as in the paper.

    Args:
        contrastive: `NTXentLoss`, `BarlowLoss`, `VICRegLoss` or another loss of view-major embeddings.
        reconstruction_weight: factor on the L1 term.

    Examples:
        >>> import torch
        >>> from scripts.losses import NTXentLoss
        >>> pred = {"embedding": torch.ones(4, 3), "reconstruction": torch.zeros(4, 1, 2, 2, 2)}
        >>> found = PretrainLoss(NTXentLoss())(pred, torch.full((4, 1, 2, 2, 2), 0.5))
        >>> {name: round(value.item(), 4) for name, value in found.items()}  # log(3) and 0.5
        {'loss': 1.5986, 'contrastive': 1.0986, 'l1': 0.5}
    """

    def __init__(self, contrastive: nn.Module, reconstruction_weight: float = 1.0) -> None:
        super().__init__()
        self.contrastive = contrastive
        self.reconstruction_weight = reconstruction_weight

    def forward(self, pred: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """Return the scalars ``loss``, ``contrastive`` and ``l1``, those of the global batch on every rank.

        Args:
            pred: ``embedding`` (V * B, D), view-major, and ``reconstruction`` (V * B, 1, I, J, K).
            target: the views before corruption, of the reconstruction's shape.

        Raises:
            InputError: reconstruction and target differ in shape.
        """
        reconstruction = pred["reconstruction"]
        if reconstruction.shape != target.shape:
            raise InputError(
                f"target: has shape {tuple(target.shape)}, the reconstruction {tuple(reconstruction.shape)}; "
                "both must be the same views"
            )
        contrastive = self.contrastive(pred["embedding"])
        l1 = mean_over_ranks(F.l1_loss(widen(reconstruction), widen(target)))
        return {
            "loss": contrastive + self.reconstruction_weight * l1,
            "contrastive": contrastive.detach(),
            "l1": l1.detach(),
        }
