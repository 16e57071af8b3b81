from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.losses import ContrastiveLoss

from scripts.errors import InputError
from scripts.losses import NTXentLoss


def naive(z: np.ndarray, n_views: int, temperature: float) -> float:
    """Return the documented loss, one ordered pair of views at a time."""
    n_anatomies = len(z) // n_views
    terms = []
    for i, row in enumerate(z):
        similarity = [
            float(row @ other) / math.sqrt(float(row @ row) * float(other @ other)) / temperature for other in z
        ]
        others = sum(math.exp(similarity[j]) for j in range(len(z)) if j % n_anatomies != i % n_anatomies)
        for p in range(len(z)):
            if p != i and p % n_anatomies == i % n_anatomies:
                positive = math.exp(similarity[p])
                terms.append(-math.log(positive / (positive + others)))
    assert len(terms) == n_views * (n_views - 1) * n_anatomies
    return sum(terms) / len(terms)


@pytest.mark.parametrize("n_views", [2, 3, 4])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_equals_the_naive_loop(n_views: int, temperature: float) -> None:
    z = torch.randn(n_views * 5, 7, dtype=torch.float64)
    loss = NTXentLoss(temperature, n_views)(z)
    assert loss.item() == pytest.approx(naive(z.numpy(), n_views, temperature), rel=1e-12)


def test_two_views_equal_monai() -> None:
    z = torch.randn(16, 9)
    expected = ContrastiveLoss(temperature=0.5)(*z.chunk(2))
    torch.testing.assert_close(NTXentLoss(0.5)(z), expected)


@pytest.mark.parametrize("n", [2, 8, 33])
def test_identical_embeddings(n: int) -> None:
    z = torch.randn(1, 12).expand(2 * n, 12)
    assert NTXentLoss()(z).item() == pytest.approx(math.log(2 * n - 1), rel=1e-6)


@pytest.mark.parametrize("n_views", [2, 4])
def test_perfect_embeddings(n_views: int) -> None:
    """Views alike, anatomies orthogonal: every positive has cosine 1, every negative 0."""
    z = torch.eye(6).repeat(n_views, 1) * 3.0
    expected = math.log1p(n_views * 5 * math.exp(-1 / 0.5))
    assert NTXentLoss(0.5, n_views)(z).item() == pytest.approx(expected, rel=1e-6)


def test_rows_are_view_major() -> None:
    z = torch.eye(4).repeat(2, 1)
    anatomy_major = z.reshape(2, 4, 4).transpose(0, 1).reshape(8, 4)
    assert NTXentLoss()(z) < NTXentLoss()(anatomy_major) - 1


def test_gradient() -> None:
    z = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(NTXentLoss(0.5, 3), z)


def test_stays_finite_at_low_temperature_and_zero_rows() -> None:
    z = torch.randn(8, 5)
    z[3] = 0
    z.requires_grad_()
    loss = NTXentLoss(1e-3)(z)
    loss.backward()
    assert loss.isfinite()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_autocast_changes_nothing() -> None:
    z = torch.randn(8, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = NTXentLoss()(z)
    assert torch.equal(low, NTXentLoss()(z))
    assert NTXentLoss()(z.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize(
    ("z", "options", "message"),
    [
        (torch.ones(2, 3), {}, "batch_size: the global batch holds one anatomy"),
        (torch.ones(4, 3), {"n_views": 4}, "batch_size: the global batch holds one anatomy"),
        (torch.ones(5, 3), {}, r"n_views: embeddings of shape \(5, 3\) do not divide into 2 views"),
        (torch.ones(4, 3, 2), {}, r"n_views: embeddings of shape \(4, 3, 2\) do not divide"),
        (torch.ones(4, 3), {"n_views": 1}, "n_views: a loss between views needs 2 or more, got 1"),
        (torch.ones(4, 3), {"temperature": 0.0}, r"temperature: must be positive, got 0\.0"),
    ],
    ids=["one anatomy", "one anatomy of four views", "odd rows", "maps", "one view", "temperature"],
)
def test_refuses(z: torch.Tensor, options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NTXentLoss(**options)(z)
