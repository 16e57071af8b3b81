"""A vision transformer with the interface of the convolutional encoder."""

from __future__ import annotations

import torch
from monai.networks.nets.vit import ViT
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["ViTEncoder"]


class ViTEncoder(nn.Module):
    """A ViT-Base on 3D patches (the paper's outlook names ViT encoders; the sizes are ViT-Base's).

    Args:
        image_size: edge of the cubic input [voxels]; the position embedding fixes it.
        patch_size: edge of a token's patch [voxels].
        hidden_size: width of a token.
        mlp_dim: width inside the MLPs.
        num_layers: transformer blocks.
        num_heads: attention heads.
        dropout: dropout probability.
        in_channels: channels of the image.

    Attributes:
        channels: width of each of the maps that `levels` returns.
        stride: input voxels per bottleneck cell along an axis.

    Raises:
        InputError: ``image_size`` is no multiple of ``patch_size``, or ``hidden_size`` none of ``num_heads``.

    References:
        Dosovitskiy et al. 2021, An image is worth 16x16 words, arXiv:2010.11929.

    Examples:
        An image of 32 voxels in patches of 16 makes 2 x 2 x 2 tokens:

        >>> encoder = ViTEncoder(32, hidden_size=12, mlp_dim=8, num_layers=4, num_heads=2)
        >>> [tuple(level.shape) for level in encoder.levels(torch.zeros(1, 1, 32, 32, 32))]
        [(1, 12, 2, 2, 2), (1, 12, 2, 2, 2), (1, 12, 2, 2, 2), (1, 12, 2, 2, 2)]
    """

    def __init__(
        self,
        image_size: int = 96,
        patch_size: int = 16,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_layers: int = 12,
        num_heads: int = 12,
        dropout: float = 0.0,
        *,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise InputError(f"image_size: {image_size} is no multiple of patch_size {patch_size}")
        if hidden_size % num_heads:
            raise InputError(f"hidden_size: {hidden_size} is no multiple of num_heads {num_heads}")
        self.vit = ViT(
            in_channels=in_channels,
            img_size=(image_size,) * 3,
            patch_size=(patch_size,) * 3,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            dropout_rate=dropout,
        )
        # MONAI makes these norms without using them, and DDP stops at parameters that get no gradient
        for name, parameter in self.vit.named_parameters():
            parameter.requires_grad_("norm_cross_attn" not in name)
        self.image_size = image_size
        self.cells = image_size // patch_size
        self.stride = patch_size
        self.channels = (hidden_size,) * 4
        self.taps = tuple(max(num_layers * quarter // 4 - 1, 0) for quarter in (1, 2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last tokens on their grid, (N, hidden_size, d, d, d) d = image_size / patch_size."""
        return self.levels(x)[3]

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the tokens on their grid after 1/4, 1/2, 3/4 of the blocks and, normalised, after all."""
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self._check(x)
        last, hidden = self.vit(x)
        first, second, third = self.taps
        return (
            self._grid(hidden[first]),
            self._grid(hidden[second]),
            self._grid(hidden[third]),
            self._grid(last),
        )

    def _grid(self, tokens: Tensor) -> Tensor:
        """Return tokens (N, d^3, C) as a map (N, C, d, d, d)."""
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, self.cells, self.cells, self.cells)

    @torch.jit.unused
    def _check(self, x: Tensor) -> None:
        if any(size != self.image_size for size in x.shape[2:]):
            raise InputError(
                f"image of {'x'.join(map(str, x.shape[2:]))} voxels: this ViT was built for cubes of "
                f"{self.image_size}; set image_size, or cut patches of that size"
            )
