"""A small network that sees the image and, beside it, the features of a pretrained one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["FeaturesBeside"]


class FeaturesBeside(nn.Module):
    """Give a network the image and the finest features of a pretrained U-Net, normalised, side by side.

    Invariant features lack the intensities of the image; the image lacks what was learnt. In training whole channels of
    the features are dropped at random, so that the network does not lean on a few.

    Args:
        encoder: MONAI's BasicUNet; its last convolution is taken off. `scripts.networks.downstream.task_network` loads
            pretrained weights into it, and freezes them.
        network: takes 1 + C channels, C being the width of the U-Net's finest features.
        drop: probability with which a channel of features is dropped in training.

    Raises:
        InputError: the U-Net has no last convolution.

    References:
        After DropGen (Dey et al. 2026), its probability of 0.75.

    Examples:
        >>> from monai.networks.nets import BasicUNet
        >>> unet = BasicUNet(features=(2, 2, 2, 2, 2, 3), norm="instance")
        >>> net = FeaturesBeside(unet, nn.Conv3d(4, 2, 1))
        >>> tuple(net(torch.zeros(1, 1, 32, 32, 32)).shape)
        (1, 2, 32, 32, 32)
    """

    def __init__(self, encoder: nn.Module, network: nn.Module, drop: float = 0.75) -> None:
        super().__init__()
        if not hasattr(encoder, "final_conv"):
            raise InputError(f"{type(encoder).__name__}: has no final_conv to take off; use MONAI's BasicUNet")
        encoder.final_conv = nn.Identity()
        self.encoder = encoder
        self.network = network
        self.drop = nn.Dropout3d(drop)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network makes of images (N, 1, I, J, K): (N, classes, I, J, K)."""
        features = nn.functional.instance_norm(self.encoder(x))
        combined: Tensor = self.network(torch.cat([x, self.drop(features)], dim=1))
        return combined
