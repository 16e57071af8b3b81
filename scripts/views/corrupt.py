"""What a scanner does to a clean image: bias field, Gibbs ringing, Rician noise; and blanked cuboids."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.physics.fields import multiplicative_field
from scripts.physics.noise import rician
from scripts.physics.transfer import to_device

__all__ = ["blank_mask", "corrupt", "truncate_k_space"]


def truncate_k_space(image: Tensor, kept: Tensor) -> Tensor:
    """Return ``image`` as reconstructed from the central part of its k-space: Gibbs ringing.

    Args:
        image: (N, 1, I, J, K) real.
        kept: (N, 3) share of the frequencies kept along each axis; frequencies with |f| <= share / 2 cycles
            per voxel stay, so 1 keeps all.

    Returns:
        (N, 1, I, J, K) real; its mean is unchanged.

    Examples:
        An edge overshoots by Gibbs' constant, 8.95 % of its height:

        >>> image = torch.zeros(1, 1, 1, 1, 1024)
        >>> image[..., 256:768] = 1
        >>> round(truncate_k_space(image, torch.tensor([[1.0, 1.0, 0.03]])).max().item(), 3)
        1.09
    """
    size = image.shape[2:]
    spectrum = torch.fft.rfftn(image, dim=(2, 3, 4))
    for axis, n in enumerate(size):
        frequency = (torch.fft.rfftfreq if axis == 2 else torch.fft.fftfreq)(n, device=image.device)
        inside = frequency.abs() <= kept[:, axis, None] / 2
        shape = [len(image), 1, 1, 1, 1]
        shape[2 + axis] = len(frequency)
        spectrum *= inside.view(shape)
    return torch.fft.irfftn(spectrum, s=list(size), dim=(2, 3, 4))


def blank_mask(cuboids: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return where any cuboid lies: (N, C, 3, 2) first and past-the-last voxels -> (N, 1, I, J, K) boolean.

    Examples:
        >>> cuboid = torch.tensor([[[[0, 2], [0, 3], [1, 2]]]])
        >>> blank_mask(cuboid, (4, 4, 4)).sum().item()  # 2 x 3 x 1 voxels
        6
    """
    i, j, k = (_inside(cuboids[:, :, axis], n) for axis, n in enumerate(size))
    plane = torch.einsum("ncj,nck->ncjk", j, k).flatten(2)
    covered = torch.bmm(i.transpose(1, 2), plane)
    return covered.view(len(cuboids), 1, *size) > 0


def corrupt(signal: Tensor, mask: Tensor, params: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corrupted image and the foreground that is left of it.

    Args:
        signal: (N, 1, I, J, K) clean magnitude, of order 1.
        mask: (N, 1, I, J, K) boolean foreground.
        params: ``bias``, ``gibbs``, ``noise`` and ``cuboids`` of `ViewParameters`, best on the CPU: which views ring
            is then known without waiting for the device.
        noise: (2, N, 1, I, J, K) standard normal, real and imaginary.

    Returns:
        image and foreground without the blanked cuboids, each (N, 1, I, J, K).

    Examples:
        Without any of it, the image stays and all of the foreground is left:

        >>> params = {"bias": torch.zeros(1, 4, 4, 4, 1), "gibbs": torch.ones(1, 3), "noise": torch.zeros(1)}
        >>> signal = torch.ones(1, 1, 4, 4, 4)
        >>> nothing = {**params, "cuboids": torch.zeros(1, 1, 3, 2)}
        >>> image, mask = corrupt(signal, signal > 0, nothing, torch.randn(2, *signal.shape))
        >>> torch.equal(image, signal), mask.all().item()
        (True, True)
    """
    size = (signal.shape[2], signal.shape[3], signal.shape[4])
    power = signal.flatten(1).square().sum(1) / mask.flatten(1).sum(1).clamp(min=1)
    rings = (params["gibbs"] < 1).any(1)
    params = {name: to_device(value, signal.device) for name, value in params.items()}
    image = signal * multiplicative_field(params["bias"], size)
    if rings.any():
        rows = to_device(rings.nonzero()[:, 0], signal.device)
        image = image.index_copy(0, rows, truncate_k_space(image[rows], params["gibbs"][rows]))
    sigma = (params["noise"] * power.sqrt()).view(-1, 1, 1, 1, 1)
    image = rician(image, sigma, noise)
    blank = blank_mask(params["cuboids"], size)
    return image.masked_fill(blank, 0.0), mask & ~blank


def _inside(bounds: Tensor, n: int) -> Tensor:
    position = torch.arange(n, device=bounds.device)
    return ((position >= bounds[..., :1]) & (position < bounds[..., 1:])).float()
