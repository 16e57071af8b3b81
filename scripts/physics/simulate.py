"""Images of tissue maps under acquisition protocols, a whole batch of mixed sequences at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.physics.mp2rage import mp2rage
from scripts.physics.mprage import mprage, mprage_closed_form
from scripts.physics.protocols import Protocol
from scripts.physics.signals import flair, fse, gre
from scripts.physics.transfer import to_device

__all__ = ["R2Source", "simulate"]

R2Source: TypeAlias = Literal["r2star", "r2", "scaled"]

_R2_SHARE = 0.7
"""R2 / R2* in brain tissue at 3 T, for maps without R2."""

_HALF = (torch.float16, torch.bfloat16)
"""Maps may be stored in these; the signals are worked out in float32."""

_SLAB = 1 << 18
"""Values a slab on the CPU: intermediate results of 1 MiB stay in the cache."""


def simulate(
    maps: Tensor,
    protocols: Sequence[Protocol],
    *,
    r2: Tensor | None = None,
    r2_from: R2Source = "r2star",
    receive: Tensor | None = None,
    transmit: Tensor | None = None,
    rows: Sequence[int] | None = None,
) -> Tensor:
    """Return the image of each sample of ``maps`` under its own protocol; one batch may mix sequences.

    Args:
        maps: (B, 4, I, J, K) of any floating type, PD [p.u.], R1 [1/s], R2* [1/s], MTsat [p.u.], 0 outside the brain.
        protocols: B protocols, or as many as ``rows`` names.
        r2: (B, 1, I, J, K), R2 [1/s].
        r2_from: what decays the spin echoes (FSE and FLAIR): "r2star", R2* in place of R2, as the paper does;
            "r2", the map ``r2``; "scaled", 0.7 R2*.
        receive: receive field of each image, broadcasts to the result.
        transmit: transmit field of each image, scales its flip angles, broadcasts to the result.
        rows: the sample of ``maps`` that each protocol images, so that several views of one anatomy need no
            copies of it; None is one protocol a sample.

    Returns:
        (B, 1, I, J, K) or (len(rows), 1, I, J, K) noise-free magnitude images, float32 for maps in half precision.

    Raises:
        InputError: if shapes or counts do not fit, or R2 is asked for and not given.

    Examples:
        One voxel of white matter under two sequences; `fse` gives the second alone:

        >>> from scripts.physics import default_protocol
        >>> maps = torch.tensor([70.0, 0.95, 21.0, 1.5]).view(1, 4, 1, 1, 1)
        >>> images = simulate(maps, [default_protocol("gre"), default_protocol("fse")], rows=[0, 0])
        >>> tuple(images.shape), round(images[1].item(), 4), round(fse(70, 0.95, 21.0, te=0.1, tr=5.0).item(), 4)
        ((2, 1, 1, 1, 1), 8.4978, 8.4978)
    """
    rows = range(len(maps)) if rows is None else rows
    _check(maps, protocols, rows, r2, r2_from)
    shape = (len(protocols), 1, *maps.shape[2:])
    out = maps.new_empty(shape, dtype=torch.float32 if maps.dtype in _HALF else maps.dtype).flatten(2)
    fields = (_spread(receive, "receive", out, shape), _spread(transmit, "transmit", out, shape))
    volumes = _Volumes(maps.flatten(2), *(None if v is None else v.flatten(2) for v in (r2, *fields)))
    graph = torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in volumes)
    whole = maps.is_cuda or graph
    for kind, members in _groups(protocols).items():
        settings = _settings([protocols[i] for i in members], out)
        images, anatomies = _index(members, maps.device), _index([rows[i] for i in members], maps.device)
        for voxels in _slabs(out.shape[2], out.shape[2] if whole else _SLAB // len(members)):
            slab = _Slab(volumes, r2_from, anatomies, images, voxels)
            out[images, 0, voxels] = _MODELS[kind](slab, settings)
    return out.view(shape)


class _Volumes(NamedTuple):
    """What is imaged, and the fields it is imaged in; (B, channels, voxels) each."""

    maps: Tensor
    r2: Tensor | None
    receive: Tensor | None
    transmit: Tensor | None


class _Slab(NamedTuple):
    """The samples of one kind of sequence in some of their voxels; (b, v) each."""

    volumes: _Volumes
    r2_from: R2Source
    anatomies: Tensor | slice
    images: Tensor | slice
    voxels: slice

    def tissue(self, channel: int) -> Tensor:
        return _rows(self.volumes.maps[:, channel, self.voxels], self.anatomies)

    @property
    def pd_r1(self) -> tuple[Tensor, Tensor]:
        return self.tissue(0), self.tissue(1)

    @property
    def r2star(self) -> Tensor:
        return self.tissue(2)

    @property
    def r2(self) -> Tensor:
        if self.r2_from == "r2" and self.volumes.r2 is not None:
            return _rows(self.volumes.r2[:, 0, self.voxels], self.anatomies)
        return self.r2star if self.r2_from == "r2star" else _R2_SHARE * self.r2star

    @property
    def receive(self) -> Tensor | None:
        return self._field(self.volumes.receive)

    @property
    def transmit(self) -> Tensor | None:
        return self._field(self.volumes.transmit)

    def _field(self, field: Tensor | None) -> Tensor | None:
        return None if field is None else _rows(field[:, 0, self.voxels], self.images)


_Settings: TypeAlias = dict[str, Tensor]
_Model: TypeAlias = Callable[[_Slab, _Settings], Tensor]


def _fse(slab: _Slab, p: _Settings) -> Tensor:
    return fse(*slab.pd_r1, slab.r2, te=p["te"], tr=p["tr"], receive=slab.receive)


def _flair(slab: _Slab, p: _Settings) -> Tensor:
    return flair(*slab.pd_r1, slab.r2, te=p["te"], tr=p["tr"], ti=p["ti"], receive=slab.receive)


def _gre(slab: _Slab, p: _Settings) -> Tensor:
    return gre(*slab.pd_r1, slab.r2star, None, **p, receive=slab.receive, transmit=slab.transmit)


def _gre_mt(slab: _Slab, p: _Settings) -> Tensor:
    return gre(*slab.pd_r1, slab.r2star, slab.tissue(3), **p, receive=slab.receive, transmit=slab.transmit)


def _mprage(slab: _Slab, p: _Settings) -> Tensor:
    settings = {name: value for name, value in p.items() if name != "closed_form"}
    return mprage(*slab.pd_r1, slab.r2star, **settings, receive=slab.receive, transmit=slab.transmit)


def _mprage_closed_form(slab: _Slab, p: _Settings) -> Tensor:
    delay = p["tr"] - p["ti"] - p["n"] * p["tx"] / 2
    settings = {name: p[name] for name in ("tr", "tx", "flip_angle", "n")}
    return mprage_closed_form(*slab.pd_r1, td=delay, **settings, receive=slab.receive, transmit=slab.transmit)


def _mp2rage(slab: _Slab, p: _Settings) -> Tensor:
    angles = (p["flip_angle1"], p["flip_angle2"])
    settings = {name: value for name, value in p.items() if not name.startswith("flip_angle")}
    return mp2rage(*slab.pd_r1, slab.r2star, flip_angles=angles, **settings, transmit=slab.transmit)


_MODELS: dict[str, _Model] = {
    "fse": _fse,
    "gre": _gre,
    "gre_mt": _gre_mt,
    "flair": _flair,
    "mprage": _mprage,
    "mprage_closed_form": _mprage_closed_form,
    "mp2rage": _mp2rage,
}


def _spread(field: Tensor | None, name: str, like: Tensor, shape: Sequence[int]) -> Tensor | None:
    if field is None:
        return None
    try:
        return field.to(like).expand(shape)
    except RuntimeError:
        message = f"simulate: the {name} field has shape {tuple(field.shape)}; it must broadcast to {tuple(shape)}"
        raise InputError(message) from None


def _groups(protocols: Sequence[Protocol]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for index, protocol in enumerate(protocols):
        closed = protocol.parameters.get("closed_form", 0)
        groups.setdefault(protocol.sequence + ("_closed_form" if closed else ""), []).append(index)
    return groups


def _settings(protocols: Sequence[Protocol], like: Tensor) -> _Settings:
    """Each parameter as a (b, 1) tensor; one transfer to the device for all."""
    names = list(protocols[0].parameters)
    table = torch.tensor([[p.parameters[name] for p in protocols] for name in names], dtype=torch.float64)
    return dict(zip(names, to_device(table.to(like.dtype), like.device)[..., None], strict=True))


def _slabs(voxels: int, step: int) -> Iterator[slice]:
    step = max(1, step)
    return (slice(start, start + step) for start in range(0, voxels, step))


def _rows(volumes: Tensor, index: Tensor | slice) -> Tensor:
    picked = volumes[index] if isinstance(index, slice) else volumes.index_select(0, index)
    return picked.float() if picked.dtype in _HALF else picked


def _index(members: list[int], device: torch.device) -> Tensor | slice:
    """An index of the first axis that keeps it; a slice for a single member, which copies nothing."""
    if len(members) == 1:
        return slice(members[0], members[0] + 1)
    return to_device(torch.tensor(members), device)


def _check(maps: Tensor, protocols: Sequence[Protocol], rows: Sequence[int], r2: Tensor | None, r2_from: str) -> None:
    if maps.ndim != 5 or maps.shape[1] != 4 or not maps.is_floating_point():
        raise InputError(
            f"simulate: maps are {maps.dtype} of shape {tuple(maps.shape)}; give floats of (B, 4, I, J, K)"
        )
    if len(protocols) != len(rows):
        raise InputError(f"simulate: {len(protocols)} protocols for {len(rows)} samples; give one each")
    if any(not 0 <= row < len(maps) for row in rows):
        raise InputError(f"simulate: rows {list(rows)} go beyond the {len(maps)} samples of maps")
    if r2_from not in ("r2star", "r2", "scaled"):
        raise InputError(f"simulate: unknown r2_from {r2_from!r}; there are r2star, r2, scaled")
    expected = (len(maps), 1, *maps.shape[2:])
    if r2_from == "r2" and (r2 is None or tuple(r2.shape) != expected):
        given = "none is given" if r2 is None else f"it has shape {tuple(r2.shape)}"
        raise InputError(f"simulate: r2_from 'r2' needs an R2 map of shape {expected}, {given}")
