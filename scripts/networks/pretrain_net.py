"""The network that pretraining trains: encoder and its two heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.encoder import Encoder
from scripts.networks.heads import Projector, Reconstructor
from scripts.networks.patch_size import check_patch
from scripts.networks.vit import ViTEncoder
from scripts.weights.encoder_state import HEADS

__all__ = ["PretrainNet", "PretrainedEncoder"]


class PretrainNet(nn.Module):
    """An encoder with a contrastive and a reconstruction branch (section 3.1 of the paper).

    Its state dict has the keys ``encoder.*``, ``projector.*`` (pooling included) and ``reconstructor.*``.

    Args:
        encoder: `Encoder` or `ViTEncoder`.
        projector: maps its features to the embedding.
        reconstructor: maps its bottleneck to the clean image.

    Raises:
        InputError: encoder and reconstructor do not change the size by the same factor.

    Examples:
        >>> widths = (2, 3, 4, 5, 6)
        >>> net = PretrainNet(Encoder(features=widths), Projector(widths), Reconstructor(widths, (5, 4, 3, 2)))
        >>> {name: tuple(value.shape) for name, value in net(torch.zeros(2, 1, 32, 32, 32)).items()}
        {'embedding': (2, 128), 'reconstruction': (2, 1, 32, 32, 32)}
    """

    def __init__(self, encoder: Encoder | ViTEncoder, projector: Projector, reconstructor: Reconstructor) -> None:
        super().__init__()
        if encoder.stride != reconstructor.factor:
            raise InputError(
                f"reconstructor: enlarges {reconstructor.factor} times, the encoder shrinks "
                f"{encoder.stride} times; give it as many features as the encoder has halvings"
            )
        self.encoder = encoder
        self.projector = projector
        self.reconstructor = reconstructor

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the embeddings and the reconstructed images of a batch of views.

        Args:
            x: images (N, 1, I, J, K); I, J and K multiples of the encoder's stride, at least twice it.

        Returns:
            ``embedding`` (N, D) and ``reconstruction`` (N, 1, I, J, K).

        Raises:
            InputError: the size of the images does not fit the encoder.
        """
        if not torch.jit.is_scripting():  # type: ignore[attr-defined]
            self.check_size(x.shape[2:])
        levels = list(self.encoder.levels(x)) if self.projector.needs_levels else [self.encoder(x)]
        return {"embedding": self.projector(levels), "reconstruction": self.reconstructor(levels[-1])}

    @torch.jit.unused
    def check_size(self, size: Sequence[int]) -> None:
        """Raise an `InputError` if images of a size (I, J, K) do not fit the encoder."""
        check_patch(size, self.encoder.stride)


class PretrainedEncoder(nn.Module):
    """An encoder under the names that it has in the weights of pretraining, ``encoder.*``.

    So ``monai.bundle.load``, which leaves out in silence what it finds under no name, and the exports of
    ``monai.bundle`` take ``models/model.pt`` as it is; the heads in it are passed over.

    Args:
        encoder: `Encoder` or `ViTEncoder`.

    Attributes:
        stride: input voxels per bottleneck cell along an axis.

    Examples:
        >>> widths = (2, 3, 4, 5, 6)
        >>> net = PretrainNet(Encoder(features=widths), Projector(widths), Reconstructor(widths, (5, 4, 3, 2)))
        >>> PretrainedEncoder(Encoder(features=widths)).load_state_dict(net.state_dict())
        <All keys matched successfully>
    """

    def __init__(self, encoder: Encoder | ViTEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.stride = encoder.stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the bottleneck (N, channels, I/stride, J/stride, K/stride) of images (N, 1, I, J, K)."""
        return self.encoder(x)

    @torch.jit.unused
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the encoder of a state dict that may hold more of a pretraining, such as heads; else as any module."""
        kept = {key: value for key, value in state_dict.items() if not key.startswith(HEADS)}
        return super().load_state_dict(kept, strict=strict, assign=assign)
