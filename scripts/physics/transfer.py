"""Small tensors on their way from the host to a GPU."""

from __future__ import annotations

from torch import Tensor, device

__all__ = ["to_device"]


def to_device(values: Tensor, where: device) -> Tensor:
    """Return ``values`` on the device ``where``; a GPU need not finish its work for that.

    An ordinary copy to a GPU waits until everything that was asked of it before is done, and the GPU then waits for
    the host to ask for more. From page-locked memory, the copy takes its turn like any other work.

    Examples:
        >>> import torch
        >>> to_device(torch.ones(2), torch.device("cpu")).tolist()
        [1.0, 1.0]
    """
    if where.type != "cuda" or values.is_cuda:
        return values.to(where)
    return values.pin_memory().to(where, non_blocking=True)
