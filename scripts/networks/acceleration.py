"""How a network runs on its device: memory format, fused kernels, memory. Parameters, their names, results stay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from scripts.networks.recompute import recompute
from scripts.switches import is_on

__all__ = ["ReducedInstanceNorm3d", "accelerate"]

logger = logging.getLogger(__name__)


class ReducedInstanceNorm3d(nn.InstanceNorm3d):
    """`torch.nn.InstanceNorm3d` without parameters, written as reductions, which a compiler fuses in any memory format.

    The stock operation reshapes its input, and so copies one whose channels come last, there and back.

    Examples:
        >>> x = torch.randn(2, 3, 4, 4, 4)
        >>> torch.allclose(ReducedInstanceNorm3d(3)(x), nn.InstanceNorm3d(3)(x), atol=1e-5)
        True
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (N, C, I, J, K) with zero mean and unit variance over space, statistics in float32."""
        wide = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(wide, dim=(2, 3, 4), correction=0, keepdim=True)
        return ((wide - mean) * torch.rsqrt(variance + self.eps)).to(x.dtype)


def accelerate(
    network: nn.Module,
    device: torch.device,
    *,
    channels_last: Any = False,
    compiled: Any = False,
    recomputed: Any = False,
) -> nn.Module:
    """Return ``network`` on ``device``, set up to run fast there; its state dict stays as it is.

    Args:
        network: changed in place.
        device: where it runs.
        channels_last: store weights and features with the channels last, as the tensor cores of a GPU read them; on
            a CPU this takes twice the time in float32.
        compiled: fuse what lies between the convolutions by `torch.compile`, at the first call (about a minute). Where
            that fails, one line says so and the network runs as it is.
        recomputed: save memory by computing a pretraining's features view by view, and again for their gradients, see
            `scripts.networks.recompute`.

    Examples:
        >>> network = accelerate(nn.Conv3d(1, 2, 3), torch.device("cpu"), channels_last=True)
        >>> network.weight.is_contiguous(memory_format=torch.channels_last_3d)
        True
    """
    network = network.to(device)
    if is_on(channels_last, "channels_last"):
        network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if is_on(recomputed, "recompute"):
        network = recompute(network)
    if is_on(compiled, "compile"):
        _compile(network)
    return network


def _compile(network: nn.Module) -> None:
    norms = [
        m for m in network.modules() if type(m) is nn.InstanceNorm3d and not m.affine and not m.track_running_stats
    ]
    for norm in norms:
        norm.__class__ = ReducedInstanceNorm3d
    network.compile()
    forward = cast("Callable[..., Any]", network._compiled_call_impl)

    def run_compiled(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        except Exception as error:
            logger.warning("torch.compile failed (%s): going on without it", _first_line(error))
            for norm in norms:
                norm.__class__ = nn.InstanceNorm3d
            network._compiled_call_impl = None
            return network(*args, **kwargs)

    network._compiled_call_impl = run_compiled


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
