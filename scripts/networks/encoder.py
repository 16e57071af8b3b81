"""The convolutional encoder of the paper (Appendix B, Table 6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets.basic_unet import Down, TwoConv
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["Encoder"]


class Encoder(nn.Module):
    """Five convolution blocks, 64 to 768 channels: the encoder half of `monai.networks.nets.BasicUNet`.

    Parameter names and shapes are those of a BasicUNet with the same first five widths, so the weights move
    into a downstream U-Net unchanged. Each block holds two convolutions of kernel 3 with instance norm,
    dropout and GELU; a max pooling of 2 stands before blocks 2 to 5.

    From the paper: five blocks, kernel 3, 64 to 768 channels, instance norm, GELU, dropout 0.2 (Table 6) and
    the widths between (the U-Net of Appendix B).

    Args:
        in_channels: channels of the image.
        features: width of each of the five levels.
        act: activation, as MONAI names it: a name, or a name and its arguments.
        norm: normalisation, likewise.
        dropout: probability with which a channel's value is dropped in each convolution.

    Attributes:
        channels: width of each level, finest first.
        stride: input voxels per bottleneck cell along an axis.

    Raises:
        InputError: ``features`` does not hold five positive widths.

    Examples:
        Five levels, halved four times; the published widths make 40.6 million parameters:

        >>> import torch
        >>> encoder, image = Encoder(features=(2, 3, 4, 5, 6)), torch.zeros(1, 1, 32, 32, 32)
        >>> [tuple(level.shape[1:]) for level in encoder.levels(image)]
        [(2, 32, 32, 32), (3, 16, 16, 16), (4, 8, 8, 8), (5, 4, 4, 4), (6, 2, 2, 2)]
        >>> with torch.device("meta"):
        ...     encoder = Encoder()
        >>> sum(parameter.numel() for parameter in encoder.parameters())
        40592448
    """

    def __init__(
        self,
        in_channels: int = 1,
        features: Sequence[int] = (64, 128, 256, 512, 768),
        act: str | Sequence[Any] = "GELU",
        norm: str | Sequence[Any] = "instance",
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        widths = tuple(int(width) for width in features)
        if len(widths) != 5 or min(widths) < 1:
            raise InputError(
                f"features: the encoder has five levels and needs five positive widths, got {list(features)}"
            )
        self.channels = widths
        self.stride = 16
        options: dict[str, Any] = {"act": act, "norm": norm, "bias": True, "dropout": dropout}
        self.conv_0 = TwoConv(3, in_channels, widths[0], **options)
        self.down_1 = Down(3, widths[0], widths[1], **options)
        self.down_2 = Down(3, widths[1], widths[2], **options)
        self.down_3 = Down(3, widths[2], widths[3], **options)
        self.down_4 = Down(3, widths[3], widths[4], **options)

    def forward(self, x: Tensor) -> Tensor:
        """Return the bottleneck (N, channels[-1], I/16, J/16, K/16) of images (N, in_channels, I, J, K)."""
        x = self.down_1(self.conv_0(x))
        return self.down_4(self.down_3(self.down_2(x)))

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the feature maps of all levels, finest first: (N, channels[l], I/2^l, J/2^l, K/2^l)."""
        x0 = self.conv_0(x)
        x1 = self.down_1(x0)
        x2 = self.down_2(x1)
        x3 = self.down_3(x2)
        return x0, x1, x2, x3, self.down_4(x3)
