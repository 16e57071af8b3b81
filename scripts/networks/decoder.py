"""The decoder of a U-Net on the paper's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.networks.nets.basic_unet import UpCat
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Four steps up from the bottleneck: the decoder half of `monai.networks.nets.BasicUNet`, without its last layer.

    Parameter names (``upcat_4`` to ``upcat_1``) and shapes are those of a BasicUNet of the same six widths, so that the
    weights move into a downstream U-Net unchanged. Each block doubles the size by a transposed convolution, adds the
    encoder's features of that size, and convolves twice.

    Args:
        features: width of each of the encoder's five levels, finest first.
        width: of the finest features that it gives.
        act: activation, as MONAI names it: a name, or a name and its arguments.
        norm: normalisation, likewise.
        dropout: probability with which a value is dropped in each convolution.

    Attributes:
        channels: width of each level that it gives, finest first.

    Raises:
        InputError: ``features`` does not hold five widths, or one of them or ``width`` is below 1.

    Examples:
        >>> import torch
        >>> from scripts.networks import Encoder
        >>> encoder, decoder = Encoder(features=(2, 3, 4, 5, 6)), Decoder((2, 3, 4, 5, 6), width=7)
        >>> [tuple(level.shape[1:3]) for level in decoder(encoder.levels(torch.zeros(1, 1, 32, 32, 32)))]
        [(7, 32), (3, 16), (4, 8), (5, 4)]
    """

    def __init__(
        self,
        features: Sequence[int] = (64, 128, 256, 512, 768),
        width: int = 32,
        act: str | Sequence[Any] = "GELU",
        norm: str | Sequence[Any] = "instance",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = tuple(int(value) for value in features)
        if len(widths) != 5 or min(*widths, width) < 1:
            raise InputError(
                f"features {list(features)} and a decoder's width of {width}: give five widths of an encoder's "
                "levels and one more, all positive"
            )
        self.channels = (width, *widths[1:4])
        options: dict[str, Any] = {"act": act, "norm": norm, "bias": True, "dropout": dropout}
        self.upcat_4 = UpCat(3, widths[4], widths[3], widths[3], **options)
        self.upcat_3 = UpCat(3, widths[3], widths[2], widths[2], **options)
        self.upcat_2 = UpCat(3, widths[2], widths[1], widths[1], **options)
        self.upcat_1 = UpCat(3, widths[1], widths[0], width, halves=False, **options)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return features (N, channels[l], I/2^l, J/2^l, K/2^l), finest first, of the encoder's five levels."""
        x0, x1, x2, x3, x4 = levels
        u3 = self.upcat_4(x4, x3)
        u2 = self.upcat_3(u3, x2)
        u1 = self.upcat_2(u2, x1)
        return self.upcat_1(u1, x0), u1, u2, u3
