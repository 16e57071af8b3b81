"""The head that reads maps off the finest features of a decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["MapHead"]


class MapHead(nn.Module):
    """One convolution of kernel 1: standardised maps, and if asked for how uncertain each of their voxels is.

    It runs in float32 under autocast: bfloat16 tells no two neighbours of a map apart that differ by less than 0.4 %.

    Args:
        channels: width of the features.
        maps: how many maps.
        uncertainty: whether it also gives the logarithm of the scale b of a Laplace distribution around each value.

    References:
        The scale as an output: Kendall and Gal 2017, What uncertainties do we need in Bayesian deep learning for
        computer vision?, arXiv:1703.04977.

    Examples:
        >>> head = MapHead(3, uncertainty=True)
        >>> {name: tuple(value.shape) for name, value in head(torch.zeros(1, 3, 2, 2, 2)).items()}
        {'maps': (1, 4, 2, 2, 2), 'log_scale': (1, 4, 2, 2, 2)}
    """

    def __init__(self, channels: int, maps: int = 4, *, uncertainty: bool = False) -> None:
        super().__init__()
        self.maps = maps
        self.conv = nn.Conv3d(channels, maps * (2 if uncertainty else 1), 1)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return ``maps`` (N, maps, I, J, K), and ``log_scale`` likewise, of features (N, channels, I, J, K)."""
        wide = features if features.dtype == torch.float64 else features.float()
        with torch.autocast(features.device.type, enabled=False):
            values = self.conv(wide)
        found = {"maps": values[:, : self.maps]}
        if values.shape[1] > self.maps:
            found["log_scale"] = values[:, self.maps :]
        return found
