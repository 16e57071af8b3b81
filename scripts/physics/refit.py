"""How well maps explain the image that they were found in: simulated again, under the protocol that fits best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.physics.protocols import Protocol, default_protocol, draw_protocol
from scripts.physics.rendering import typical_r2
from scripts.physics.simulate import simulate

__all__ = ["Refit", "candidate_protocols", "refit"]

_POSITIVE = 0.95  # share of cells in which a gain has to be above 0
_CONSTANT = 1e-10  # share of an image's power that rounding in float32 stays below
_AT_ONCE = 16  # protocols
_SPIN_ECHOES = ("fse", "flair")


@dataclass(frozen=True)
class Refit:
    """The best of the simulated images.

    Attributes:
        residual: 1 - R2, the share of the image's variance in the head that it leaves.
        protocol: under which it was simulated.
    """

    residual: float
    protocol: Protocol


def candidate_protocols(prior: Mapping[str, Any], each: int, seed: int = 0) -> list[Protocol]:
    """Return the typical protocol of every sequence of a prior, and draws from it, the same for the same seed.

    Args:
        prior: as `scripts.physics.load_prior` returns it.
        each: draws of each sequence.
        seed: of the draws.

    Examples:
        >>> from scripts.physics import load_prior
        >>> found = candidate_protocols(load_prior("physical"), each=2)
        >>> len(found), str(found[0])  # six sequences
        (18, 'FSE TR 5000 TE 100 ms')
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = [draw_protocol(prior, sequence, generator) for sequence in prior for _ in range(each)]
    return [*(default_protocol(sequence) for sequence in prior), *drawn]


@torch.no_grad()
def refit(
    image: Tensor, maps: Tensor, head: Tensor, protocols: Sequence[Protocol], *, cell: int = 4, most: int = 4000
) -> Refit:
    """Return the protocol under which maps come nearest to an image, up to gain, smooth bias field and offset.

    Image and simulated signal are averaged over the head's voxels in cells, so that noise and ringing weigh little;
    then, by least squares, image = b signal + c, where b is a quadratic polynomial of the place. A b below 0, which no
    receiver has, is no fit. Spin echoes decay with `typical_r2` or, as where a network learnt from maps without R2,
    with R2*, whichever is nearer.

    Args:
        image: (1, I, J, K), in any unit.
        maps: (4, I, J, K) PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.].
        head: (1, I, J, K), above 0 where the image is to be explained.
        protocols: to try.
        cell: side of a cell [voxels].
        most: cells that are looked at, spread over the head.

    Raises:
        InputError: a head of fewer cells than the fit has unknowns, or an image that is constant in it.

    Examples:
        An image is explained by its own maps and protocol:

        >>> from scripts.physics import typical_protocols
        >>> from scripts.physics.rendering import render
        >>> maps = torch.rand(4, 16, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.1
        >>> protocols = list(typical_protocols().values())[:5]
        >>> image = 3 * render(maps, protocols[4]) + 7
        >>> found = refit(image, maps, maps[:1] > 0, protocols, cell=2)
        >>> found.residual < 1e-6, str(found.protocol)
        (True, 'FLAIR TR 9000 TE 100 TI 2500 ms')
    """
    voxels, inside, places = _cells(torch.cat([image, maps]).float(), head > 0, cell, most)
    weight = inside / inside.sum(-1, keepdim=True)
    seen = (voxels[:, 0] * weight).sum(-1).double().cpu()
    spread = (seen - seen.mean()).square().sum()
    unknowns = _polynomial(places)
    if len(seen) <= unknowns.shape[1] + 1 or not float(spread) > _CONSTANT * float(seen.square().sum()):
        raise InputError(f"refit: {len(seen)} cells of {cell} voxels of head, too few or of one intensity, show no fit")
    tissue = voxels[:, 1:].movedim(1, 0).reshape(1, 4, -1, 1, 1)
    best = Refit(math.inf, protocols[0])
    for first in range(0, len(protocols), _AT_ONCE):
        some, signals = _simulated(tissue, protocols[first : first + _AT_ONCE])
        means = (signals.view(len(some), *inside.shape) * weight).sum(-1)
        left = _unexplained(seen, means.double().cpu(), unknowns) / spread
        nearest = int(left.argmin())
        if float(left[nearest]) < best.residual:
            best = Refit(float(left[nearest]), some[nearest])
    return best


def _simulated(tissue: Tensor, protocols: Sequence[Protocol]) -> tuple[list[Protocol], Tensor]:
    """Return protocols and the signals of tissue (1, 4, n, 1, 1) under them; spin echoes also with R2* for R2."""
    echoes = [protocol for protocol in protocols if protocol.sequence in _SPIN_ECHOES]
    signals = simulate(tissue, protocols, r2=typical_r2(tissue[:, 2:3]), r2_from="r2", rows=[0] * len(protocols))
    if not echoes:
        return [*protocols], signals
    as_trained = simulate(tissue, echoes, r2_from="r2star", rows=[0] * len(echoes))
    return [*protocols, *echoes], torch.cat([signals, as_trained])


def _cells(volumes: Tensor, head: Tensor, cell: int, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return voxels (n, C, cell^3), which are head (n, cell^3), and centres (n, 3) of cells that are half head."""
    size = [n // cell * cell for n in head.shape[1:]]
    parts = [_blocks(volume[:, : size[0], : size[1], : size[2]], cell) for volume in (volumes, head.float())]
    inside = parts[1][:, 0]
    kept = (inside.mean(-1) >= 0.5).nonzero()[:, 0]
    kept = kept[:: max(-(-len(kept) // most), 1)]
    grid = [torch.arange(n // cell, device=head.device) for n in size]
    places = torch.stack(torch.meshgrid(*grid, indexing="ij"), -1).view(-1, 3)
    return parts[0][kept], inside[kept], places[kept].double().cpu()


def _blocks(volume: Tensor, cell: int) -> Tensor:
    """Return (C, I, J, K) as (n, C, cell^3) of its cells."""
    parts = volume.unfold(1, cell, cell).unfold(2, cell, cell).unfold(3, cell, cell)
    return parts.permute(1, 2, 3, 0, 4, 5, 6).reshape(-1, len(volume), cell**3)


def _polynomial(places: Tensor) -> Tensor:
    """Return the ten quadratic polynomials (n, 10) of places (n, 3), scaled to -1 .. 1."""
    low, high = (places.amin(0), places.amax(0)) if len(places) else (0.0, 1.0)
    x, y, z = (2 * (places - low) / torch.as_tensor(high - low).clamp(min=1) - 1).unbind(1)
    return torch.stack([torch.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], dim=1)


def _unexplained(seen: Tensor, signal: Tensor, polynomial: Tensor) -> Tensor:
    """Return the sum of squares (P,) that the fit of each signal (P, n) leaves of what was seen (n,)."""
    scaled = signal / signal.mean(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    design = torch.cat([scaled[..., None] * polynomial, torch.ones_like(scaled)[..., None]], dim=-1)
    wanted = seen.expand(len(signal), -1)[..., None]
    found = torch.linalg.lstsq(design, wanted, driver="gelsy").solution
    left = (design @ found - wanted).square().sum((1, 2))
    gain = (polynomial @ found[:, :-1])[..., 0]
    good = (gain > 0).double().mean(1) >= _POSITIVE
    return torch.where(good, left, (seen - seen.mean()).square().sum())
