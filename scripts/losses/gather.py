"""Putting the ranks' shares of a batch together, differentiably."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from scripts.errors import InputError
from scripts.ranks import rank, world_size

__all__ = ["gather_views", "gather_with_gradient", "mean_over_ranks"]


def gather_with_gradient(x: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order, (world * N, D) from (N, D); ``x`` itself in one process.

    Every rank must bring the same N. The backward pass sums the gradients of all ranks' losses, so that after
    DDP's averaging the parameters get the gradient of one process holding the global batch.

    Examples:
        >>> gather_with_gradient(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]])
    """
    if world_size() == 1:
        return x
    gathered: Tensor = _AllGather.apply(x)
    return gathered


def gather_views(z: Tensor, n_views: int) -> Tensor:
    """Return view-major rows of all ranks as (V, B, D), with B the number of anatomies of the global batch.

    Args:
        z: (V * b, D) on each rank; row v * b + a is view v of the rank's anatomy a, which becomes anatomy
            rank * b + a of the global batch.
        n_views: V.

    Raises:
        InputError: the rows do not divide into ``n_views`` views, or the global batch holds one anatomy only.

    Examples:
        Two views of three anatomies:

        >>> gather_views(torch.arange(6.0)[:, None], n_views=2)[:, :, 0].tolist()
        [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    if z.ndim != 2 or len(z) == 0 or len(z) % n_views:
        raise InputError(
            f"n_views: embeddings of shape {tuple(z.shape)} do not divide into {n_views} views of "
            "each anatomy; give loss and views the same n_views"
        )
    rows = gather_with_gradient(z).reshape(-1, n_views, len(z) // n_views, z.shape[1])
    views = rows.transpose(0, 1).flatten(1, 2)
    if views.shape[1] < 2:
        raise InputError("batch_size: the global batch holds one anatomy, nothing to tell it from; set 2 or more")
    return views


def mean_over_ranks(x: Tensor) -> Tensor:
    """Return the mean of a scalar over all ranks; its gradient is that of the local value.

    DDP averages the gradients, so the parameters get the gradient of the mean.

    Examples:
        >>> mean_over_ranks(torch.tensor(2.0))
        tensor(2.)
    """
    if world_size() == 1:
        return x
    mean = x.detach().clone()
    dist.all_reduce(mean)
    return x + (mean / world_size() - x.detach())


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]
