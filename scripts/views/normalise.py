"""The one intensity normalisation: zero mean and unit deviation over the foreground."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.errors import InputError

__all__ = ["mean_and_deviation", "normalise", "zscore_foreground"]


def normalise(image: Tensor, mask: Tensor) -> Tensor:
    """Return ``image`` scaled to zero mean and unit standard deviation over ``mask``, per sample.

    The same affine map is applied outside of the mask, so a background of 0 becomes -mean / deviation.
    A sample without foreground, or constant over it, becomes 0 over the foreground.

    Args:
        image: (N, ...).
        mask: (N, ...) boolean, or numbers of 0 and 1.

    Returns:
        (N, ...), of ``image``'s dtype.

    Examples:
        >>> normalise(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[False, True, True]])).tolist()
        [[-2.0, -1.0, 1.0]]
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


def mean_and_deviation(image: Tensor, mask: Tensor) -> tuple[float, float]:
    """Return mean and standard deviation of one image over a boolean ``mask`` of its shape, to undo `normalise`.

    Examples:
        >>> mean_and_deviation(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([False, True, True]))
        (2.0, 1.0)
    """
    values = image[mask]
    return float(values.mean()), float(values.std(correction=0))


def zscore_foreground(image: Tensor) -> Tensor:
    """Return an image (N, ...) normalised over its voxels > 0, float32, as in pretraining.

    Also serves as a MONAI transform on a channel-first image of one channel, (1, I, J, K).

    Raises:
        InputError: a sample without a voxel > 0.

    Examples:
        >>> zscore_foreground(torch.tensor([[0.0, 1.0, 3.0]])).tolist()
        [[-2.0, -1.0, 1.0]]
    """
    values = image.float()
    mask = values > 0
    if not bool(mask.flatten(1).any(dim=1).all()):
        msg = "the image holds no voxel above 0: give an image whose tissue is positive, skull-stripped if possible"
        raise InputError(msg)
    return normalise(values, mask)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products over the last axis, (N, 1, M) and (N, 1, M) -> (N, 1, 1), as one batched BLAS call."""
    return torch.bmm(a, b.transpose(1, 2))
