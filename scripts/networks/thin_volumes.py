"""A convolution whose gradient a CPU gets wrong in bfloat16, done in float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Float32WhereThin"]

_PLANES = 2


class Float32WhereThin(TorchFunctionMode):
    """While it is entered, volumes of two planes are convolved in float32 on a CPU, whatever autocast says.

    The gradient of a 3x3x3 kernel in bfloat16 is partly uninitialised memory where the first side of the volume is 2
    voxels, as in the deepest level of a U-Net on patches of 32: NaN at times, wrong numbers at others (torch 2.13 with
    oneDNN on AVX-512 BF16; other sides, kernels of 1, transposed convolutions and the other gradient are right to the
    precision of bfloat16). What is convolved so is given on in the precision that autocast would have given.

    Examples:
        >>> layer, volume = torch.nn.Conv3d(1, 1, 3, padding=1), torch.ones(1, 1, 2, 2, 2)
        >>> with torch.autocast("cpu", dtype=torch.bfloat16), Float32WhereThin():
        ...     found = layer(volume)
        >>> found.dtype, torch.equal(found, layer(volume).bfloat16())
        (torch.bfloat16, True)
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return what the function gives, from float32 inputs where it is such a convolution."""
        kwargs = kwargs or {}
        if func is not torch.conv3d or not _is_wrong(*args, **kwargs):
            return func(*args, **kwargs)
        given = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return func(*(_single(arg) for arg in args), **{k: _single(v) for k, v in kwargs.items()}).to(given)


def _is_wrong(input: torch.Tensor, weight: torch.Tensor, *_: Any, **__: Any) -> bool:  # noqa: A002 - torch's names
    return (
        input.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.is_grad_enabled()
        and weight.shape[2] > 1
        and input.shape[2] == _PLANES
    )


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) else value
