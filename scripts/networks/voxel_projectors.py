"""The heads of a voxel-wise loss: one small network a level, on some voxels of its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.networks.decoder import Decoder
from scripts.networks.encoder import Encoder

__all__ = ["VoxelProjectors", "level_channels", "sample_voxels"]


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
        Three voxels of each of four views:

        >>> heads, voxels = VoxelProjectors({"encoder_8": 5}, hidden=6, out=4), 15 * torch.rand(4, 3, 3)
        >>> found = heads({"encoder_8": torch.randn(4, 5, 2, 2, 2)}, voxels)
        >>> {level: tuple(values.shape) for level, values in found.items()}
        {'encoder_8': (4, 3, 4)}
    """

    def __init__(self, channels: Mapping[str, int], hidden: int = 256, out: int = 128) -> None:
        super().__init__()
        if not channels:
            raise InputError("contrast_levels: there is no level; name one or more, such as decoder_1")
        self.levels = nn.ModuleDict({level: _perceptron(width, hidden, out) for level, width in channels.items()})

    def forward(self, features: Mapping[str, Tensor], voxels: Tensor) -> dict[str, Tensor]:
        """Return the embeddings of voxels by level, (N, K, out).

        Args:
            features: level -> (N, C, I, J, K) of N views.
            voxels: (N, K, 3) places [voxels of the views].
        """
        return {level: self._project(level, features[level], voxels) for level in self.levels}

    def _project(self, level: str, features: Tensor, voxels: Tensor) -> Tensor:
        picked = sample_voxels(features, voxels, int(level.rpartition("_")[2]))
        with torch.autocast(features.device.type, enabled=False):
            projected: Tensor = self.levels[level](picked.flatten(0, 1))
        return projected.view(*picked.shape[:2], -1)


def sample_voxels(features: Tensor, voxels: Tensor, stride: int) -> Tensor:
    """Return features at places, trilinear between the centres of cells, (N, K, C) in at least float32.

    It reads no more than eight cells a place: `torch.nn.functional.grid_sample` would first make a float32 copy of all.

    Args:
        features: (N, C, I, J, K); cell i along an axis covers the voxels i * stride to (i + 1) * stride - 1.
        voxels: (N, K, 3) places [voxels]; beyond the outermost centres, features are those of the nearest.
        stride: voxels per cell along an axis.

    Examples:
        Between two cells of two voxels, whose centres are at 0.5 and 2.5:

        >>> features = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1)
        >>> sample_voxels(features, torch.tensor([[[1.0, 0.5, 0.5], [3.0, 0.5, 0.5]]]), 2).flatten().tolist()
        [0.25, 1.0]
    """
    size = features.shape[2:]
    most = torch.stack([voxels.new_full((), side - 1) for side in size])
    cell = ((voxels + 0.5) / stride - 0.5).clamp(min=0).minimum(most)
    low = cell.floor()
    share = cell - low
    index, weight = [], []
    for corner in product((0, 1), repeat=3):
        at = torch.stack([low[..., axis] + corner[axis] for axis in range(3)], dim=-1).minimum(most).long()
        index.append((at[..., 0] * size[1] + at[..., 1]) * size[2] + at[..., 2])
        weight.append(torch.stack([share[..., a] if corner[a] else 1 - share[..., a] for a in range(3)]).prod(0))
    flat = features.flatten(2)
    rows = torch.cat(index, dim=1)[:, None].expand(-1, flat.shape[1], -1)
    picked = flat.gather(2, rows).unflatten(2, (8, -1))
    wide = picked if picked.dtype == torch.float64 else picked.float()
    # no product of matrices, which autocast would round
    return (wide * torch.stack(weight, dim=1).to(wide.dtype)[:, None]).sum(2).transpose(1, 2)


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
