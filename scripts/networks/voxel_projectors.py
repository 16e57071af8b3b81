"""The heads of a voxel-wise loss: one small network a level, on some voxels of its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.decoder import Decoder
from scripts.networks.encoder import Encoder

__all__ = ["VoxelProjectors", "level_channels"]


class VoxelProjectors(nn.Module):
    """A perceptron of three layers for each level, thrown away after the pretraining.

    Linear layers without bias, batch normalisation after each over all voxels of all views, GELU between; it runs in
    float32 under autocast. Each process of a distributed run normalises over its own voxels.

    Args:
        channels: level -> width of its features, see `level_channels`.
        hidden: width between the layers.
        out: length of a voxel's embedding.

    References:
        One projector a level and its layers: Dey et al. 2024, Learning general-purpose biomedical volume
        representations using randomized synthesis, arXiv:2411.02372.

    Examples:
        Three voxels of each of two anatomies, in two views of each:

        >>> heads, index = VoxelProjectors({"encoder_8": 5}, hidden=6, out=4), torch.tensor([[0, 1, 2], [5, 6, 7]])
        >>> found = heads({"encoder_8": torch.randn(4, 5, 2, 2, 2)}, {"encoder_8": index})
        >>> {level: tuple(values.shape) for level, values in found.items()}
        {'encoder_8': (4, 3, 4)}
    """

    def __init__(self, channels: Mapping[str, int], hidden: int = 256, out: int = 128) -> None:
        super().__init__()
        if not channels:
            raise InputError("contrast_levels: there is no level; name one or more, such as decoder_1")
        self.levels = nn.ModuleDict({level: _perceptron(width, hidden, out) for level, width in channels.items()})

    def forward(self, features: Mapping[str, Tensor], voxels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the embeddings of voxels by level, (N, K, out).

        Args:
            features: level -> (N, C, I, J, K), view-major, of N = V * B views.
            voxels: level -> (B, K) indices into the flattened space, those of an anatomy for all of its views.
        """
        return {level: self._project(level, features[level], voxels[level]) for level in self.levels}

    def _project(self, level: str, features: Tensor, index: Tensor) -> Tensor:
        flat = features.flatten(2)
        rows = index.repeat(len(flat) // len(index), 1)[:, None].expand(-1, flat.shape[1], -1)
        picked = flat.gather(2, rows).transpose(1, 2)
        wide = picked if picked.dtype == torch.float64 else picked.float()
        with torch.autocast(features.device.type, enabled=False):
            projected: Tensor = self.levels[level](wide.flatten(0, 1))
        return projected.view(len(flat), index.shape[1], -1)


def level_channels(encoder: Encoder, decoder: Decoder, levels: Sequence[str]) -> dict[str, int]:
    """Return the width of each of ``levels``: ``encoder_`` or ``decoder_`` and the voxels per cell along an axis.

    Raises:
        InputError: there is no such level.

    Examples:
        >>> widths = (2, 3, 4, 5, 6)
        >>> level_channels(Encoder(features=widths), Decoder(widths, 7), ["decoder_1", "decoder_8", "encoder_16"])
        {'decoder_1': 7, 'decoder_8': 5, 'encoder_16': 6}
    """
    parts = {"encoder": encoder.channels, "decoder": decoder.channels}
    known = {f"{part}_{2**n}": width for part, widths in parts.items() for n, width in enumerate(widths)}
    unknown = [level for level in levels if level not in known]
    if unknown:
        raise InputError(f"contrast_levels: {unknown} is unknown, choose of {', '.join(known)}")
    return {level: known[level] for level in levels}


def _perceptron(channels: int, hidden: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.GELU(),
        nn.Linear(hidden, out, bias=False),
        nn.BatchNorm1d(out, affine=False),
    )
