from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.metrics.retrieval import retrieval_hits


def top1(features: NDArray[np.float64] | torch.Tensor) -> float:
    return float(np.nanmean(retrieval_hits(features)))


def naive_hit(features: NDArray[np.float64], query: int, s: int, t: int) -> bool:
    """One query by scalar arithmetic only."""

    def cosine(u: NDArray[np.float64], v: NDArray[np.float64]) -> float:
        dot = sum(float(x) * float(y) for x, y in zip(u, v, strict=True))
        return dot / math.sqrt(sum(float(x) ** 2 for x in u) * sum(float(y) ** 2 for y in v))

    scores = [cosine(features[query, s], features[k, t]) for k in range(len(features))]
    return scores.index(max(scores)) == query


def test_equals_a_naive_loop(features: NDArray[np.float64]) -> None:
    n, s, _ = features.shape
    hits = retrieval_hits(features)
    for i in range(s):
        for j in range(s):
            expected = [naive_hit(features, a, i, j) if i != j else math.nan for a in range(n)]
            np.testing.assert_array_equal(hits[:, i, j], expected)
    assert 0.2 < top1(features) < 1.0, "the case must hold hits and misses"


def test_identical_views_are_always_found() -> None:
    anatomy = torch.randn(20, 1, 8, generator=torch.Generator().manual_seed(0))
    assert top1(anatomy.expand(20, 4, 8)) == 1.0


def test_matrix_is_directed() -> None:
    # towards sequence 1 both queries have their own anatomy nearest; back, both are nearest to anatomy 0
    features = np.array([[[1.0, 0.0], [1.0, 0.1]], [[0.6, 0.8], [1.0, 0.2]]])
    matrix = retrieval_hits(features).mean(axis=0)
    assert matrix[0, 1] == 1.0
    assert matrix[1, 0] == 0.5


def test_random_features_score_chance_within_binomial_bounds() -> None:
    n, s = 40, 6
    features = np.random.default_rng(1).normal(size=(n, s, 16))
    chance, queries = 1 / n, n * s * (s - 1)
    # 4 standard errors of independent queries; pairs share vectors, hence twice that
    bound = 8 * math.sqrt(chance * (1 - chance) / queries)
    assert abs(top1(features) - chance) < bound


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_collapsed_features_score_exactly_chance(value: float) -> None:
    assert top1(np.full((7, 3, 4), value)) == pytest.approx(1 / 7)


def test_is_invariant_to_scale_rotation_and_order(features: NDArray[np.float64]) -> None:
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(5, 5)))
    order = np.random.default_rng(5).permutation(len(features))
    hits = retrieval_hits(features)
    np.testing.assert_array_equal(retrieval_hits(7 * features @ rotation), hits)
    np.testing.assert_array_equal(retrieval_hits(features[order]), hits[order])


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (np.zeros((4, 3)), r"got shape \(4, 3\)"),
        (np.zeros((1, 3, 2)), "at least|anatomies >= 2"),
        (np.zeros((4, 1, 2)), "sequences >= 2"),
        (np.full((4, 2, 2), np.nan), "16 feature values are NaN or Inf"),
    ],
    ids=["two axes", "one anatomy", "one sequence", "nan"],
)
def test_bad_features_are_refused(bad: NDArray[np.float64], match: str) -> None:
    with pytest.raises(InputError, match=match):
        retrieval_hits(bad)
