"""All randomness of the views: one function of (seed, step, rank) gives one recorded set of parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scripts.physics import Protocol, default_protocol, draw_protocol
from scripts.physics.fields import draw_field, greville
from scripts.views.ranges import ViewRanges

__all__ = ["ViewParameters", "draw_protocols", "draw_views", "generator_for", "share_geometry"]

_GEOMETRY = {"affine": 2, "control": 4}  # tensors that say where a view lies, and their axes besides the first


@dataclass(frozen=True)
class ViewParameters:
    """Everything that was drawn for N = V * B views, view-major: row v * B + b is view v of anatomy b.

    The tensors are float32 on the CPU unless moved by `to`.

    Examples:
        >>> from scripts.views import ViewGenerator
        >>> drawn = ViewGenerator("seqinv", patch_size=16).draw(batch=3, step=0)
        >>> len(drawn.protocols), tuple(drawn.affine.shape), len(drawn.select([0, 3]).protocols)
        (6, (6, 3, 4), 2)
        >>> ViewParameters.from_dict(drawn.to_dict()).to_dict() == drawn.to_dict()
        True
    """

    protocols: tuple[Protocol, ...]
    """N protocols."""
    affine: Tensor
    """(N, 3, 4): voxel offsets from the patch centre -> voxel offsets from the region centre."""
    control: Tensor
    """(N, n, n, n, 3): B-spline control points of the whole warp, in voxel coordinates of the region."""
    transmit: Tensor
    """(N, m, m, m, 1): control points of the log transmit field over the region."""
    bias: Tensor
    """(N, m, m, m, 1): control points of the log bias field over the patch."""
    gibbs: Tensor
    """(N, 3): share of k-space kept along each axis; 1 keeps all."""
    noise: Tensor
    """(N,): sigma of the Rician noise, as a share of the foreground's root mean square signal."""
    noise_seed: tuple[int, ...]
    """N seeds of the noise itself, which is drawn on the device."""
    cuboids: Tensor
    """(N, C, 3, 2): first and past-the-last voxel of each blanked cuboid; empty ones have both equal."""

    def to(self, device: torch.device | str) -> ViewParameters:
        """Return the same parameters with the tensors on ``device``."""
        tensors = ((k, v) for k, v in vars(self).items() if isinstance(v, Tensor))
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in tensors}
        return replace(self, **moved)

    def select(self, rows: Sequence[int]) -> ViewParameters:
        """Return the parameters of the views in ``rows``."""
        index = torch.as_tensor(rows, dtype=torch.long)
        picked: dict[str, Any] = {k: v[index.to(v.device)] for k, v in vars(self).items() if isinstance(v, Tensor)}
        for name in ("protocols", "noise_seed"):
            picked[name] = tuple(getattr(self, name)[i] for i in rows)
        return replace(self, **picked)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready record from which the views can be replayed."""
        record: dict[str, Any] = {
            k: v.tolist() if isinstance(v, Tensor) else v for k, v in vars(self).items() if k != "protocols"
        }
        return {"protocols": [p.to_dict() for p in self.protocols], **record}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> ViewParameters:
        """Return the parameters that `to_dict` recorded."""
        values: dict[str, Any] = {
            k: tuple(v) if k == "noise_seed" else torch.tensor(v, dtype=torch.float32)
            for k, v in record.items()
            if k != "protocols"
        }
        return cls(protocols=tuple(Protocol.from_dict(p) for p in record["protocols"]), **values)


def generator_for(*key: int) -> torch.Generator:
    """Return a CPU generator whose stream depends on the integers of ``key`` alone.

    Examples:
        >>> first, again, other = (torch.rand(1, generator=generator_for(*key)) for key in ((1, 2), (1, 2), (2, 1)))
        >>> torch.equal(first, again), torch.equal(first, other)
        (True, False)
    """
    word = np.random.SeedSequence([len(key), *(k & 0xFFFFFFFFFFFFFFFF for k in key)]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(word[0]) << 31 | int(word[1]) >> 1)


def draw_protocols(
    mode: str, prior: Mapping[str, Any], n_views: int, batch: int, generator: torch.Generator
) -> tuple[Protocol, ...]:
    """Return V * B protocols, view-major.

    ``base`` repeats the default MPRAGE, ``seqaug`` shares one drawn protocol among the views of an anatomy,
    ``seqinv`` draws every view of an anatomy from another sequence (with more views than sequences, each
    sequence comes again only after all have been used, with parameters of its own).

    Examples:
        >>> from scripts.physics import load_prior
        >>> drawn = draw_protocols("seqinv", load_prior("paper"), 2, 50, generator_for(0))
        >>> any(drawn[b].sequence == drawn[50 + b].sequence for b in range(50))
        False
        >>> drawn = draw_protocols("seqaug", load_prior("paper"), 2, 50, generator_for(0))
        >>> all(drawn[b] == drawn[50 + b] for b in range(50))
        True
    """
    if mode == "base":
        return (default_protocol("mprage"),) * (n_views * batch)
    names = sorted(prior)
    columns: list[list[Protocol]] = []
    for _ in range(batch):
        order = [int(i) for i in torch.randperm(len(names), generator=generator)]
        if mode == "seqaug":
            columns.append([draw_protocol(prior, names[order[0]], generator)] * n_views)
        else:
            chosen = [names[order[v % len(names)]] for v in range(n_views)]
            columns.append([draw_protocol(prior, name, generator) for name in chosen])
    return tuple(columns[b][v] for v in range(n_views) for b in range(batch))


def draw_views(
    protocols: tuple[Protocol, ...],
    ranges: ViewRanges,
    *,
    patch_size: int,
    region_size: int,
    generator: torch.Generator,
) -> ViewParameters:
    """Draw the spatial and intensity parameters of one view per protocol.

    Args:
        protocols: the N sequences with their parameters.
        ranges: what may be drawn.
        patch_size: side of the views [voxels].
        region_size: side of the region that they are cut from [voxels].
        generator: CPU generator, the only source of randomness.

    Examples:
        >>> sides = {"patch_size": 16, "region_size": 20}
        >>> protocols = (default_protocol("mprage"),) * 1000
        >>> drawn = draw_views(protocols, ViewRanges(), **sides, generator=generator_for(0))
        >>> abs((drawn.noise > 0).float().mean().item() - 0.8) < 0.05  # `noise_probability`
        True
    """
    n = len(protocols)
    affine = _draw_affine(n, ranges, (region_size - patch_size) / 2, generator)
    return ViewParameters(
        protocols=protocols,
        affine=affine,
        control=_control_points(affine, ranges, patch_size, region_size, generator),
        transmit=draw_field(n, 4, ranges.transmit, generator),
        bias=draw_field(n, ranges.bias_control, ranges.bias * _gated(n, ranges.bias_probability, generator), generator),
        gibbs=1 - (1 - ranges.gibbs) * _gated(n, ranges.gibbs_probability, generator, 3),
        noise=ranges.noise * _gated(n, ranges.noise_probability, generator),
        noise_seed=tuple(torch.randint(2**53, (n,), generator=generator).tolist()),
        cuboids=_draw_cuboids(n, ranges, patch_size, generator),
    )


def share_geometry(params: ViewParameters, batch: int) -> ViewParameters:
    """Return parameters with the geometry of the first view of each anatomy in all of its views; the rest as it is.

    Args:
        params: of N = V * B views, view-major.
        batch: B, the number of anatomies.

    Examples:
        >>> from scripts.views import ViewGenerator
        >>> drawn = share_geometry(ViewGenerator(patch_size=16).draw(batch=3, step=0), 3)
        >>> torch.equal(drawn.control[:3], drawn.control[3:]), torch.equal(drawn.bias[:3], drawn.bias[3:])
        (True, False)
    """
    views = len(params.protocols) // batch
    repeated = {name: getattr(params, name)[:batch].repeat(views, *(1,) * n) for name, n in _GEOMETRY.items()}
    return replace(params, **repeated)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low


def _gated(n: int, probability: float, generator: torch.Generator, columns: int = 0) -> Tensor:
    """Uniform draws of 0..1, (n,) or (n, columns), set to 0 in the rows that a coin of ``probability`` leaves out."""
    amount = torch.rand((n, columns) if columns else (n,), generator=generator)
    on = torch.rand(n, generator=generator) < probability
    return amount * (on[:, None] if columns else on)


def _draw_affine(n: int, ranges: ViewRanges, reach: float, generator: torch.Generator) -> Tensor:
    angles = _uniform((n, 3), -ranges.rotation, ranges.rotation, generator) * (math.pi / 180)
    matrix = torch.eye(3).expand(n, 3, 3)
    for axis, (i, j) in enumerate(((1, 2), (0, 2), (0, 1))):
        turn = torch.eye(3).repeat(n, 1, 1)
        cos, sin = angles[:, axis].cos(), angles[:, axis].sin()
        turn[:, i, i], turn[:, j, j], turn[:, i, j], turn[:, j, i] = cos, cos, -sin, sin
        matrix = matrix @ turn
    shear = torch.eye(3) + _uniform((n, 3, 3), -ranges.shear, ranges.shear, generator) * (1 - torch.eye(3))
    size = 1 + _uniform((n, 3), -ranges.scale, ranges.scale, generator)
    flip = 1 - 2 * (torch.rand((n, 3), generator=generator) < ranges.flip).float()
    shift = _uniform((n, 3, 1), -reach, reach, generator)
    return torch.cat([matrix @ shear * (size * flip)[:, None], shift], dim=2)


def _control_points(
    affine: Tensor, ranges: ViewRanges, patch_size: int, region_size: int, generator: torch.Generator
) -> Tensor:
    n, points = len(affine), ranges.elastic_control
    axis = greville(points).float() * ((patch_size - 1) / 2)
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    spacing = (patch_size - 1) / (points - 3)
    strength = ranges.elastic * patch_size / 96 * torch.rand((n, 1, 1, 1, 1), generator=generator).sqrt()
    # a displacement of less than 0.4 control spacings keeps a cubic B-spline warp from folding
    # (Choi & Lee 2000, doi:10.1006/cgip.1999.0018)
    offset = (torch.randn((n, *grid.shape), generator=generator) * strength).clamp(-0.4 * spacing, 0.4 * spacing)
    moved = torch.einsum("nxy,nijky->nijkx", affine[:, :, :3], grid + offset)
    return moved + affine[:, None, None, None, :, 3] + (region_size - 1) / 2


def _draw_cuboids(n: int, ranges: ViewRanges, patch_size: int, generator: torch.Generator) -> Tensor:
    shape = (n, ranges.cuboids, 3)
    sides = (_uniform(shape, *ranges.cuboid_size, generator) * patch_size).round().clamp(1, patch_size)
    first = (torch.rand(shape, generator=generator) * (patch_size - sides + 1)).floor()
    count = _gated(n, ranges.dropout_probability, generator) * (ranges.cuboids + 1)
    used = (torch.arange(ranges.cuboids) < count.floor().view(n, 1)).view(n, -1, 1)
    return torch.stack([first, torch.where(used, first + sides, first)], dim=-1)
