"""The ridge regression by hand that scikit-learn's replaces, held beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.metrics.ridge import PENALTIES, ridge_predict, subject_folds

Floats = NDArray[np.float64]


def before(x: Floats, y: Floats, asked: Floats, groups: NDArray[np.intp], weight: Floats | None) -> Floats:
    weight = np.ones(len(x)) if weight is None else weight
    penalty = 1.0
    if len(np.unique(groups)) > 1:
        fit, held = next(iter(subject_folds(groups, folds=3)))
        errors = (solve(x[fit], y[fit], x[held], weight[fit], PENALTIES) - y[held]) ** 2
        penalty = PENALTIES[int((errors.sum(axis=-1) @ weight[held]).argmin())]
    return solve(x, y, asked, weight, (penalty,))[0]


def solve(x: Floats, y: Floats, asked: Floats, weight: Floats, penalties: Sequence[float]) -> Floats:
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    weight = weight / weight.sum()
    z = (x - mean) * scale
    centre, target = weight @ z, weight @ y
    z = z - centre
    weighted = z * weight[:, None]
    gram, moment = weighted.T @ z, weighted.T @ (y - target)
    identity = np.eye(len(gram))
    slopes = np.stack([np.linalg.solve(gram + penalty * identity, moment) for penalty in penalties])
    return ((asked - mean) * scale - centre) @ slopes + target


@pytest.mark.parametrize("seed", range(40))
def test_same_numbers_as_before(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d, t, m = int(rng.integers(2, 120)), int(rng.integers(1, 60)), int(rng.integers(1, 4)), 7
    x, asked = rng.normal(3, 2, (n, d)), rng.normal(3, 2, (m, d))
    x[:, rng.random(d) < 0.2] = 1.5  # dead channels
    y = x[:, :1] * rng.normal(size=t) + rng.choice([0.1, 1, 30]) * rng.normal(size=(n, t))
    if seed % 4 == 1:
        y[:] = 2.0
    groups = rng.integers(0, rng.integers(1, 12), n)
    weight = rng.uniform(0.2, 3, n) if seed % 2 else None
    expected = before(x, y, asked, groups, weight)
    np.testing.assert_allclose(ridge_predict(x, y, asked, groups, weight), expected, rtol=1e-8, atol=1e-10)
