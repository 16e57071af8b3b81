from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from monai.losses import BarlowTwinsLoss

from scripts.errors import InputError
from scripts.losses import BarlowLoss, VICRegLoss


def naive_barlow(views: np.ndarray, off_diagonal: float) -> float:
    losses = []
    for a, b in combinations(views, 2):
        loss = 0.0
        for i in range(a.shape[1]):
            for j in range(b.shape[1]):
                p, q = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
                c = np.mean(p * q) / np.sqrt((np.var(p) + 1e-5) * (np.var(q) + 1e-5))
                loss += (1 - c) ** 2 if i == j else off_diagonal * c**2
        losses.append(loss)
    return float(np.mean(losses))


def naive_vicreg(views: np.ndarray, weights: tuple[float, float, float]) -> float:
    def variance(z: np.ndarray) -> float:
        return float(np.mean([max(0.0, 1 - np.sqrt(np.var(column, ddof=1) + 1e-4)) for column in z.T]))

    def covariance(z: np.ndarray) -> float:
        c = np.cov(z.T)
        return float(sum(c[i, j] ** 2 for i in range(len(c)) for j in range(len(c)) if i != j) / len(c))

    losses = [
        weights[0] * np.mean((a - b) ** 2)
        + weights[1] * (variance(a) + variance(b))
        + weights[2] * (covariance(a) + covariance(b))
        for a, b in combinations(views, 2)
    ]
    return float(np.mean(losses))


@pytest.mark.parametrize("n_views", [2, 3, 4])
def test_barlow_equals_the_naive_loop(n_views: int) -> None:
    views = torch.randn(n_views, 6, 5, dtype=torch.float64)
    loss = BarlowLoss(off_diagonal=0.02, scale=0.5, n_views=n_views)(views.flatten(0, 1))
    assert loss.item() == pytest.approx(0.5 * naive_barlow(views.numpy(), 0.02), rel=1e-10)


def test_barlow_is_zero_for_identical_whitened_views() -> None:
    z = torch.linalg.qr(torch.randn(64, 8, dtype=torch.float64) - 0.5)[0] * 1e3
    z = torch.linalg.qr(z - z.mean(0))[0] * 1e3
    assert BarlowLoss()(z.repeat(2, 1)).item() == pytest.approx(0, abs=1e-6)
    assert BarlowLoss()(torch.cat([z, -z])).item() == pytest.approx(4 * 8, rel=1e-6)


def test_barlow_approaches_monai_for_many_anatomies() -> None:
    """MONAI's correlation is (n - 1) / n of ours."""
    z = torch.randn(2 * 4000, 6, dtype=torch.float64)
    torch.testing.assert_close(BarlowLoss()(z), BarlowTwinsLoss()(*z.chunk(2)), rtol=1e-3, atol=0)


@pytest.mark.parametrize("n_views", [2, 3, 4])
@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 2.0, 3.0)], ids=["published", "other"])
def test_vicreg_equals_the_naive_loop(n_views: int, weights: tuple[float, float, float]) -> None:
    views = 0.8 * torch.randn(n_views, 6, 5, dtype=torch.float64)
    loss = VICRegLoss(*weights, n_views=n_views)(views.flatten(0, 1))
    assert loss.item() == pytest.approx(naive_vicreg(views.numpy(), weights), rel=1e-10)


def test_vicreg_of_collapsed_embeddings() -> None:
    """All embeddings alike: only the variance term is left, 2 * 25 * (1 - sqrt(1e-4))."""
    z = torch.randn(1, 7).expand(10, 7)
    assert VICRegLoss()(z).item() == pytest.approx(50 * 0.99, rel=1e-5)


@pytest.mark.parametrize("kind", [BarlowLoss, VICRegLoss])
def test_gradient_autocast_and_refusal(kind: type[BarlowLoss | VICRegLoss]) -> None:
    z = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(kind(n_views=3), z)
    x = torch.randn(8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = kind()(x)
    assert torch.equal(low, kind()(x))
    with pytest.raises(InputError, match="batch_size: the global batch holds one anatomy"):
        kind()(x[:2])
