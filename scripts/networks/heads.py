"""The two heads that pretraining puts on the encoder: projector and reconstructor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.pooling import Pooling

__all__ = ["Projector", "Reconstructor"]


class Projector(nn.Module):
    """Pooling, then an MLP 768 -> 512 -> 128: the embedding that the contrastive loss compares.

    From the paper (Table 6): the three widths. Our reading: mean pooling before it, GELU between the two
    linear layers, no normalisation. It runs in float32 under autocast: early in training the embeddings of
    different images differ by less than half precision resolves.

    Args:
        channels: width of the bottleneck, or of every level, finest first.
        hidden: width between the two linear layers.
        out: length of the embedding.
        pooling: kind of `Pooling`.
        norm: "batch" puts batch normalisation before the GELU, as SimCLR's published code does: the pooled
            features of an untrained encoder are nearly the same for every image, and centring them over the
            batch ends the loss's first plateau. None (the paper's table names none) has no normalisation. Each
            process of a distributed run normalises over its own images.

    Attributes:
        needs_levels: whether the pooling reads all levels, not the bottleneck alone.

    Examples:
        >>> projector = Projector()
        >>> tuple(projector([torch.zeros(4, 768, 6, 6, 6)]).shape)
        (4, 128)
        >>> sum(parameter.numel() for parameter in projector.parameters())  # 768 * 512 + 512 + 512 * 128 + 128
        459392
    """

    def __init__(
        self,
        channels: int | Sequence[int] = 768,
        hidden: int = 512,
        out: int = 128,
        pooling: str = "mean",
        norm: str | None = None,
    ) -> None:
        super().__init__()
        self.pooling = Pooling(pooling, channels)
        self.needs_levels = pooling == "levels"
        if norm not in (None, "batch"):
            raise InputError(f"unknown projector norm {norm!r}: use batch, or null for none")
        between = [nn.GELU()] if norm is None else [nn.BatchNorm1d(hidden), nn.GELU()]
        self.mlp = nn.Sequential(nn.Linear(self.pooling.out_channels, hidden), *between, nn.Linear(hidden, out))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return embeddings (N, out) of levels (N, C_l, d_l, h_l, w_l): all, finest first, or the last."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            return self.mlp(self.pooling(levels))
        with torch.autocast(levels[-1].device.type, enabled=False):
            return self.mlp(self.pooling(levels))


class Reconstructor(nn.Module):
    """Four transposed convolutions from the bottleneck to an image 16 times its size, for the L1 branch.

    From the paper (Table 6): four transposed convolutions of kernel 2, 768 -> 48 channels. Our reading:
    stride 2, the width halved at every step, instance norm and GELU after each, and a last convolution of
    kernel 1 from 48 channels to the image.

    Args:
        channels: width of the bottleneck, or of every level (the last is taken).
        features: width after each transposed convolution.
        out_channels: channels of the image.

    Attributes:
        factor: output voxels per bottleneck cell along an axis, 2 to the number of steps.

    Raises:
        InputError: ``features`` is empty.

    Examples:
        >>> reconstructor = Reconstructor(8, features=(6, 5, 4, 3))
        >>> reconstructor.factor, tuple(reconstructor(torch.zeros(1, 8, 2, 2, 2)).shape)
        (16, (1, 1, 32, 32, 32))
    """

    def __init__(
        self,
        channels: int | Sequence[int] = 768,
        features: Sequence[int] = (384, 192, 96, 48),
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        if len(features) == 0:
            raise InputError("features: the reconstructor needs one width per transposed convolution, got none")
        widths = [
            channels if isinstance(channels, int) else int(channels[-1]),
            *(int(width) for width in features),
        ]
        self.factor = 2 ** len(features)
        self.up = nn.Sequential(
            *(
                nn.Sequential(nn.ConvTranspose3d(wide, narrow, 2, stride=2), nn.InstanceNorm3d(narrow), nn.GELU())
                for wide, narrow in pairwise(widths)
            )
        )
        self.final = nn.Conv3d(widths[-1], out_channels, 1)

    def forward(self, bottleneck: Tensor) -> Tensor:
        """Return images (N, out_channels, factor*d, factor*h, factor*w) from maps (N, channels, d, h, w)."""
        return self.final(self.up(bottleneck))
