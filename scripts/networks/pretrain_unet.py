"""The network of the dense objectives: a U-Net on the encoder, and the heads that pretraining puts on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.decoder import Decoder
from scripts.networks.encoder import Encoder
from scripts.networks.heads import Projector
from scripts.networks.map_head import MapHead
from scripts.networks.patch_size import check_patch
from scripts.networks.voxel_projectors import VoxelProjectors

__all__ = ["PretrainUNet"]

_FINEST = "decoder_1"


class PretrainUNet(nn.Module):
    """An encoder and a decoder with one or more heads, each for an objective of pretraining.

    Its state dict has the keys ``encoder.*`` and ``decoder.*``, which a task can start from, and those of the heads,
    ``map_head.*``, ``voxel_projectors.*`` and ``projector.*``.

    Args:
        encoder: the convolutional encoder.
        decoder: on all of its levels.
        map_head: reads maps off the finest features.
        voxel_projectors: of voxels of some levels, for a loss between voxels.
        projector: of the pooled bottleneck, for a loss between views.

    Raises:
        InputError: another encoder, a decoder of other widths, or no head on its finest features.

    Examples:
        >>> import torch
        >>> widths = (2, 3, 4, 5, 6)
        >>> net = PretrainUNet(Encoder(features=widths), Decoder(widths, 7), MapHead(7))
        >>> {name: tuple(value.shape) for name, value in net(torch.zeros(2, 1, 32, 32, 32)).items()}
        {'maps': (2, 4, 32, 32, 32)}
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        map_head: MapHead | None = None,
        voxel_projectors: VoxelProjectors | None = None,
        projector: Projector | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, Encoder):
            raise InputError(f"{type(encoder).__name__}: a U-Net needs the convolutional encoder, leave out vit.json")
        if decoder.channels[1:] != encoder.channels[1:4]:
            raise InputError(
                f"decoder: made for levels of {list(decoder.channels[1:])} channels, those of the encoder have "
                f"{list(encoder.channels[1:4])}; give both the same features"
            )
        if map_head is None and (voxel_projectors is None or _FINEST not in voxel_projectors.levels):
            raise InputError(f"decoder: no head learns from its finest features; name {_FINEST} in contrast_levels")
        self.encoder = encoder
        self.decoder = decoder
        self.map_head = map_head
        self.voxel_projectors = voxel_projectors
        self.projector = projector

    def forward(self, x: Tensor, voxels: Tensor | None = None) -> dict[str, Any]:
        """Return what the heads make of a batch of views.

        Args:
            x: images (N, 1, I, J, K); I, J and K multiples of 16, at least 32.
            voxels: (N, K, 3) places [voxels] that the `VoxelProjectors` embed.

        Returns:
            ``maps`` and ``log_scale`` of the `MapHead`; ``voxels``, level -> (N, K, D), where they are asked for;
            ``embedding`` (N, D) of the projector.

        Raises:
            InputError: the size of the images does not fit the encoder.
        """
        self.check_size(x.shape[2:])
        levels = self.encoder.levels(x)
        decoded = self.decoder(levels)
        found: dict[str, Any] = {}
        if self.map_head is not None:
            found.update(self.map_head(decoded[0]))
        if self.voxel_projectors is not None and voxels is not None:
            parts = {"encoder": levels, "decoder": decoded}
            features = {f"{part}_{2**n}": level for part, each in parts.items() for n, level in enumerate(each)}
            found["voxels"] = self.voxel_projectors(features, voxels)
        if self.projector is not None:
            found["embedding"] = self.projector(list(levels))
        return found

    def check_size(self, size: Sequence[int]) -> None:
        """Raise an `InputError` if images of a size (I, J, K) do not fit the encoder."""
        check_patch(size, self.encoder.stride)
