"""What makes simulated heads differ more than the data do: tissue values, skull-stripping, resolution, gamma."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.physics.transfer import to_device

__all__ = ["Variation", "blur", "vary_images", "vary_maps"]


@dataclass(frozen=True)
class Variation:
    """Ranges of what is varied besides the views themselves; each 0 leaves it out."""

    maps: float = 0.06
    """Standard deviation of the log factor on each map of each anatomy."""
    stripped: float = 0.25
    """Probability that a head is shown without what lies outside its labels."""
    blur_probability: float = 0.4
    blur: float = 2.0
    """Largest sigma along one axis, the slices' [voxels]; along the others a third of it at most."""
    gamma: float = 0.3
    """Largest absolute logarithm of the exponent of the intensities between their extremes."""
    scale: float = 0.2
    """Largest relative change of the normalised intensities."""
    shift: float = 0.3
    """Largest shift of them, in standard deviations: a patch is not normalised as the head around it."""

    @classmethod
    def of(cls, values: Variation | Mapping[str, Any] | None) -> Variation:
        """Return the defaults, with what a mapping changes.

        Raises:
            InputError: an unknown name, or a number below 0.
        """
        if isinstance(values, Variation):
            return values
        known = [field.name for field in fields(cls)]
        given = dict(values or {})
        if not set(given) <= set(known) or any(not float(value) >= 0 for value in given.values()):
            raise InputError(f"variation={given}: give numbers of at least 0 for {', '.join(known)}")
        return cls(**{name: float(value) for name, value in given.items()})


def vary_maps(maps: Tensor, labels: Tensor, variation: Variation, generator: torch.Generator) -> Tensor:
    """Return maps with other tissue values, some of them without what is not labelled.

    Args:
        maps: (B, C, I, J, K) float32.
        labels: (B, 1, I, J, K), 0 outside of what is labelled.
        variation: how much.
        generator: of the CPU.

    Examples:
        >>> maps, labels = torch.ones(2, 4, 1, 1, 2), torch.tensor([0.0, 1.0]).expand(2, 1, 1, 1, 2)
        >>> bare = vary_maps(maps, labels, Variation(maps=0, stripped=1), torch.Generator())
        >>> bare[0, 0].flatten().tolist()  # what is not labelled is gone
        [0.0, 1.0]
    """
    n = len(maps)
    factor = (variation.maps * torch.randn(n, maps.shape[1], 1, 1, 1, generator=generator)).exp()
    bare = torch.rand(n, 1, 1, 1, 1, generator=generator) < variation.stripped
    kept = (labels > 0) | ~to_device(bare, maps.device)
    return maps * to_device(factor, maps.device) * kept


def vary_images(image: Tensor, variation: Variation, generator: torch.Generator) -> Tensor:
    """Return normalised images of another resolution, gamma, scale and shift; (N, 1, I, J, K) both.

    Examples:
        >>> image = torch.randn(2, 1, 4, 4, 4)
        >>> still = Variation(blur_probability=0, gamma=0, scale=0, shift=0)
        >>> torch.allclose(vary_images(image, still, torch.Generator()), image, atol=1e-5)
        True
    """
    n, device = len(image), image.device
    sigma = variation.blur * torch.rand(n, 3, generator=generator) / 3
    axis = torch.randint(3, (n,), generator=generator)
    sigma[torch.arange(n), axis] *= 3
    sigma *= torch.rand(n, 1, generator=generator) < variation.blur_probability
    uniform = [2 * torch.rand(n, 1, 1, 1, 1, generator=generator) - 1 for _ in range(3)]
    gamma, scale, shift = (to_device(value, device) for value in uniform)
    if bool((sigma > 0).any()):
        image = blur(image, sigma)
    low, high = image.amin((2, 3, 4), keepdim=True), image.amax((2, 3, 4), keepdim=True)
    span = (high - low).clamp(min=1e-6)
    bent = ((image - low) / span).clamp(0, 1).pow((variation.gamma * gamma).exp()) * span + low
    return bent * (1 + variation.scale * scale) + variation.shift * shift


def blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Return images (N, 1, I, J, K) smoothed by a Gaussian of ``sigma`` (N, 3) voxels, periodic at the faces.

    Examples:
        The variance of a blurred point is that of the Gaussian:

        >>> point = torch.zeros(1, 1, 32, 32, 32)
        >>> point[0, 0, 16, 16, 16] = 1
        >>> profile = blur(point, torch.tensor([[2.0, 0.0, 0.0]])).sum((3, 4))[0, 0]
        >>> round(float((profile * (torch.arange(32.0) - 16) ** 2).sum()), 2)
        4.0
    """
    size = image.shape[2:]
    spectrum = torch.fft.rfftn(image, dim=(2, 3, 4))
    sigma = to_device(sigma, image.device)
    for axis, n in enumerate(size):
        frequency = (torch.fft.rfftfreq if axis == 2 else torch.fft.fftfreq)(n, device=image.device)
        shape = [len(image), 1, 1, 1, 1]
        shape[2 + axis] = len(frequency)
        spectrum *= torch.exp(-2 * (math.pi * frequency * sigma[:, axis, None]) ** 2).view(shape)
    return torch.fft.irfftn(spectrum, s=list(size), dim=(2, 3, 4))
