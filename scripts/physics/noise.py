"""Noise of magnitude images."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rician"]


def rician(signal: Tensor, sigma: float | Tensor, noise: Tensor) -> Tensor:
    """Return the magnitude of ``signal`` with Gaussian noise in both channels of the receiver.

    sqrt((S + sigma e_r)^2 + (sigma e_i)^2), where e_r and e_i are standard normal. It has no derivative where
    it is 0, which takes sigma = 0.

    Args:
        signal: S, any shape.
        sigma: standard deviation of the noise in one channel, in the unit of ``signal``; broadcasts with it.
        noise: (2, *signal.shape), e_r and e_i.

    Returns:
        The noisy magnitude, of the shape of ``signal``.

    References:
        Gudbjartsson and Patz 1995, doi:10.1002/mrm.1910340618.

    Examples:
        Noise alone has the mean of a Rayleigh distribution, sqrt(pi / 2) = 1.2533 times sigma:

        >>> rician(torch.tensor([3.0]), 1.0, torch.tensor([[0.0], [4.0]])).item()
        5.0
        >>> noise = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0))
        >>> round(rician(torch.zeros(100_000), 1.0, noise).mean().item(), 2)
        1.25
    """
    sigma = torch.as_tensor(sigma, dtype=signal.dtype, device=signal.device)
    real = torch.addcmul(signal, sigma, noise[0])
    return torch.hypot(real, sigma * noise[1])
