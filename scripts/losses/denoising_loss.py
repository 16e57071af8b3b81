"""The loss of denoising: the squared error of the noise."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DenoisingLoss"]


class DenoisingLoss(nn.Module):
    """Mean squared error between the noise predicted and the noise added (paper, Appendix B.1).

    Examples:
        >>> import torch
        >>> DenoisingLoss()(torch.zeros(1, 1, 2, 2, 2), torch.full((1, 1, 2, 2, 2), 3.0))
        {'loss': tensor(9.)}
    """

    def forward(self, predicted: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Return ``loss`` of predicted and true noise, both (N, 1, ...)."""
        return {"loss": F.mse_loss(predicted.float(), noise.float())}
