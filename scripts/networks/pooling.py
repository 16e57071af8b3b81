"""From feature maps to one vector per image: the step between encoder and projector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["POOLINGS", "Pooling"]

POOLINGS = ("mean", "max", "mean_max", "gem", "attention", "levels")


class Pooling(nn.Module):
    """Pools the encoder's feature maps over space, in at least float32.

    The paper's projector starts from 768 numbers, read here as the spatial mean of the bottleneck (``mean``).
    Every channel of that bottleneck has just been normalised per image, so its mean says little before the
    shapes of the distributions carry information; the other kinds reach past that:

    ``max``: maximum; ``mean_max``: both, concatenated; ``gem``: generalised mean
    (mean(max(x, 1e-6)^p))^(1/p) with a learnt p, 3 at first; ``attention``: mean weighted by
    softmax(w.x + b) over space with a learnt w, b; ``levels``: mean and standard deviation of every level.

    Args:
        kind: one of `POOLINGS`.
        channels: width of the bottleneck, or of every level, finest first (``levels`` needs them all).

    Attributes:
        out_channels: length of the pooled vector.

    Raises:
        InputError: unknown kind, or ``levels`` without the widths of all levels.

    References:
        ``gem``: Radenović et al. 2019, doi:10.1109/TPAMI.2018.2846566.

    Examples:
        The generalised mean of 1 and 2 with p = 3 is ((1 + 8) / 2)^(1/3) = 1.651:

        >>> cells = torch.tensor([1.0, 2.0]).view(1, 1, 2, 1, 1)
        >>> {kind: round(Pooling(kind, 1)([cells]).max().item(), 3) for kind in ("mean", "max", "gem")}
        {'mean': 1.5, 'max': 2.0, 'gem': 1.651}
    """

    def __init__(self, kind: str = "mean", channels: int | Sequence[int] = 768) -> None:
        super().__init__()
        if kind not in POOLINGS:
            raise InputError(f"pooling: {kind!r} is unknown, choose one of {', '.join(POOLINGS)}")
        if kind == "levels" and isinstance(channels, int):
            raise InputError("channels: pooling 'levels' needs the width of every level, e.g. the encoder's features")
        widths = [channels] if isinstance(channels, int) else [int(width) for width in channels]
        self.kind = kind
        self.pool = _make(kind, widths[-1])
        factor = 2 if kind in ("mean_max", "levels") else 1
        self.out_channels = factor * (sum(widths) if kind == "levels" else widths[-1])

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return (N, out_channels) of levels (N, C_l, d_l, h_l, w_l), finest first; most read the last."""
        return self.pool(levels)


def _make(kind: str, width: int) -> nn.Module:
    if kind == "attention":
        return _Attention(width)
    plain: dict[str, type[nn.Module]] = {
        "mean": _Mean,
        "max": _Max,
        "mean_max": _MeanMax,
        "gem": _GeneralisedMean,
        "levels": _LevelStatistics,
    }
    return plain[kind]()


def _cells(features: Tensor) -> Tensor:
    """Return maps (N, C, d, h, w) as (N, C, d*h*w), half precision widened to float32."""
    flat = features.flatten(2)
    return flat if flat.dtype == torch.float64 else flat.float()


class _Mean(nn.Module):
    def forward(self, levels: list[Tensor]) -> Tensor:
        return _cells(levels[-1]).mean(2)


class _Max(nn.Module):
    def forward(self, levels: list[Tensor]) -> Tensor:
        return _cells(levels[-1]).amax(2)


class _MeanMax(nn.Module):
    def forward(self, levels: list[Tensor]) -> Tensor:
        cells = _cells(levels[-1])
        return torch.cat([cells.mean(2), cells.amax(2)], 1)


class _GeneralisedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(3.0))

    def forward(self, levels: list[Tensor]) -> Tensor:
        cells = _cells(levels[-1]).clamp(min=1e-6)
        return cells.pow(self.exponent).mean(2).pow(1 / self.exponent)


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Linear(channels, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        cells = _cells(levels[-1])
        weights = self.score(cells.transpose(1, 2)).softmax(1)
        return torch.matmul(cells, weights).squeeze(2)


class _LevelStatistics(nn.Module):
    def forward(self, levels: list[Tensor]) -> Tensor:
        pooled: list[Tensor] = []
        for features in levels:
            # a float32 copy of the finest level would cost gigabytes; the sums below widen on their own
            dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
            flat = features.flatten(2)
            pooled.append(flat.mean(2, dtype=dtype))
            pooled.append((flat.var(2, correction=0).to(dtype) + 1e-6).sqrt())
        return torch.cat(pooled, 1)
