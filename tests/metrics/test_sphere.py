from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.metrics.sphere import alignment_by_anatomy, alignment_by_chance, uniformity


def test_alignment_equals_a_naive_loop(features: NDArray[np.float64]) -> None:
    unit = [[v / math.sqrt(sum(x * x for x in v)) for v in row] for row in features]
    expected = [sum(math.dist(u, v) ** 2 for u, v in combinations(row, 2)) / 3 for row in unit]
    np.testing.assert_allclose(alignment_by_anatomy(features), expected)


def test_alignment_by_chance_equals_a_naive_loop(features: NDArray[np.float64]) -> None:
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    n, s, _ = features.shape
    distances = [
        math.dist(unit[a, i], unit[b, j]) ** 2
        for i, j in combinations(range(s), 2)
        for a in range(n)
        for b in range(n)
        if a != b
    ]
    assert alignment_by_chance(features) == pytest.approx(np.mean(distances))


def test_uniformity_equals_the_authors_formula(features: NDArray[np.float64]) -> None:
    # Wang & Isola 2020, figure 5: pdist(x, p=2).pow(2).mul(-t).exp().mean().log(), averaged over the views
    unit = F.normalize(torch.from_numpy(features), dim=-1)
    expected = [float(torch.pdist(unit[:, s]).pow(2).mul(-2).exp().mean().log()) for s in range(3)]
    assert uniformity(features) == pytest.approx(np.mean(expected))
    assert uniformity(features[:, 1:2]) == pytest.approx(expected[1])


def test_limits() -> None:
    same = torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(0)).expand(6, 3, 4)
    np.testing.assert_allclose(alignment_by_anatomy(same), 0, atol=1e-12)
    opposite = torch.tensor([[1.0], [-1.0]]).expand(5, 2, 1)
    np.testing.assert_allclose(alignment_by_anatomy(opposite), 4)
    # every pair of an orthonormal set lies at squared distance 2
    assert uniformity(np.eye(5)[:, None]) == pytest.approx(-4)
    assert uniformity(np.array([[[1.0, 0]], [[-1, 0]]])) == pytest.approx(-8)
    assert uniformity(np.ones((4, 1, 3))) == pytest.approx(0)


def test_a_feature_that_only_names_the_sequence_has_collapsed() -> None:
    features = np.broadcast_to(np.eye(4), (6, 4, 4))
    assert uniformity(features) == pytest.approx(0)
    np.testing.assert_allclose(alignment_by_anatomy(features), 2)


def test_one_anatomy_is_refused() -> None:
    with pytest.raises(InputError, match="anatomies >= 2"):
        uniformity(np.ones((1, 1, 3)))
