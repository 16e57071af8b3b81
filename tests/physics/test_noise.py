from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from scripts.physics import rician


@pytest.mark.parametrize("ratio", [0.0, 0.5, 2.0, 20.0])
def test_follows_the_rice_distribution(ratio: float) -> None:
    sigma, n = 0.3, 200_000
    noise = torch.randn((2, n), generator=torch.Generator().manual_seed(1))
    noisy = rician(torch.full((n,), ratio * sigma), sigma, noise).double()
    rice = stats.rice(ratio, scale=sigma)
    mean, variance, kurtosis = rice.stats("mvk")
    assert abs(noisy.mean().item() - mean) < 5 * np.sqrt(variance / n)
    assert abs(noisy.var().item() - variance) < 5 * variance * np.sqrt((kurtosis + 2) / n)
    assert abs((noisy**2).mean().item() / ((ratio * sigma) ** 2 + 2 * sigma**2) - 1) < 0.02
    assert stats.kstest(noisy[:5000].numpy(), rice.cdf).pvalue > 1e-3


def test_is_its_equation_for_given_noise_and_a_level_for_each_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    signal = torch.rand(2, 1, 3, 4, 5, generator=generator)
    noise = torch.randn(2, *signal.shape, generator=generator)
    sigma = torch.tensor([0.1, 0.4]).view(2, 1, 1, 1, 1)
    expected = np.abs(signal.numpy() + sigma.numpy() * (noise[0].numpy() + 1j * noise[1].numpy()))
    np.testing.assert_allclose(rician(signal, sigma, noise).numpy(), expected, rtol=1e-6)


def test_no_noise_is_the_magnitude() -> None:
    signal = torch.tensor([0.0, 1.0, -2.0])
    assert torch.equal(rician(signal, 0.0, torch.randn(2, 3)), signal.abs())
