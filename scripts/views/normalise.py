"""The one intensity normalisation: zero mean and unit deviation over the foreground."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["normalise"]


def normalise(image: Tensor, mask: Tensor) -> Tensor:
    """Return ``image`` scaled to zero mean and unit standard deviation over ``mask``, per sample.

    The same affine map is applied outside of the mask, so a background of 0 becomes -mean / deviation.
    A sample without foreground, or constant over it, becomes 0 over the foreground.

    Args:
        image: (N, ...).
        mask: (N, ...) boolean, or numbers of 0 and 1.

    Returns:
        (N, ...), of ``image``'s dtype.
    """
    flat = image.reshape(len(image), 1, -1)
    weight = mask.reshape(len(mask), 1, -1).to(image.dtype)
    count = weight.sum(-1, keepdim=True).clamp(min=1)
    mean = _dot(flat, weight) / count
    centred = flat - mean
    deviation = (_dot(centred * weight, centred) / count).sqrt()
    tiny = torch.finfo(image.dtype).eps * mean.abs().clamp(min=torch.finfo(image.dtype).tiny)
    scale = torch.where(deviation > tiny, 1 / deviation.clamp(min=torch.finfo(image.dtype).tiny), 0.0)
    return (centred * scale).view_as(image)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products over the last axis, (N, 1, M) and (N, 1, M) -> (N, 1, 1), as one batched BLAS call."""
    return torch.bmm(a, b.transpose(1, 2))
