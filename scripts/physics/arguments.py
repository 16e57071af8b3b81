"""How the signal equations take their arguments: anything that broadcasts, in the dtype of the maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

__all__ = ["TensorLike", "as_tensors", "flip_factors", "gain"]

TensorLike: TypeAlias = float | Tensor
"""A number, or a tensor that broadcasts with the maps, e.g. (B, 1, 1, 1) for one value a sample."""


def as_tensors(maps: Sequence[TensorLike], settings: Sequence[TensorLike]) -> tuple[list[Tensor], list[Tensor]]:
    """Return ``maps`` and ``settings`` as tensors of one floating dtype on the device of the maps.

    Args:
        maps: tissue maps; the tensors among them give the device and, promoted, the dtype (torch's default
            dtype and the CPU where all are plain numbers).
        settings: protocol parameters.

    Examples:
        >>> (pd,), (te, tr) = as_tensors([torch.tensor([80.0], dtype=torch.float64)], [0.1, torch.tensor(5)])
        >>> te, tr
        (tensor(0.1000, dtype=torch.float64), tensor(5., dtype=torch.float64))
    """
    tensors = [value for value in maps if isinstance(value, Tensor)]
    dtype = torch.get_default_dtype()
    device = tensors[0].device if tensors else torch.device("cpu")
    if tensors and tensors[0].is_floating_point():
        dtype = tensors[0].dtype
        for value in tensors[1:]:
            dtype = torch.promote_types(dtype, value.dtype)

    def convert(value: TensorLike) -> Tensor:
        return torch.as_tensor(value, dtype=dtype, device=device)

    return [convert(value) for value in maps], [convert(value) for value in settings]


def flip_factors(flip_angle: Tensor, transmit: TensorLike | None) -> tuple[Tensor, Tensor]:
    """Return sin(a) and 1 - cos(a) of the flip angle a = ``transmit`` * ``flip_angle`` [degrees].

    1 - cos(a) = 2 sin(a / 2)^2 keeps its digits at the small angles of gradient-echo trains, where cos(a)
    loses them to rounding in float32.

    Examples:
        >>> [round(factor.item(), 4) for factor in flip_factors(torch.tensor(30.0), transmit=2.0)]  # of 60 degrees
        [0.866, 0.5]
    """
    angle = torch.deg2rad(flip_angle)
    if transmit is not None:
        angle = angle * torch.as_tensor(transmit, dtype=angle.dtype, device=angle.device)
    return angle.sin(), 2 * (angle / 2).sin().square()


def gain(pd: Tensor, receive: TensorLike | None, factor: Tensor | None = None) -> Tensor:
    """Return ``pd`` times the ``receive`` field (1 if None) times ``factor`` (1 if None).

    Examples:
        >>> gain(torch.tensor(80.0), receive=1.1, factor=torch.tensor(0.5))
        tensor(44.)
    """
    if receive is not None:
        pd = pd * torch.as_tensor(receive, dtype=pd.dtype, device=pd.device)
    return pd if factor is None else pd * factor
