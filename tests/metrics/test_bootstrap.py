from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import bootstrap, norm

from scripts.errors import InputError
from scripts.metrics.bootstrap import bootstrap_interval, bootstrap_weights, group_sums, percentile_interval


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=40)
    expected = bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20000, rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = bootstrap_interval(values, resamples=20000)
    # Monte Carlo error of a 2.5 % quantile of 20000 draws is about 2 % of the standard error
    assert low == pytest.approx(expected.low, abs=0.1 * values.std() / math.sqrt(40))
    assert high == pytest.approx(expected.high, abs=0.1 * values.std() / math.sqrt(40))


def test_width_follows_the_subjects_not_the_values() -> None:
    subject_means = np.random.default_rng(2).normal(size=30)
    copies = np.repeat(subject_means, 50)
    groups = np.repeat(np.arange(30), 50)
    assert bootstrap_interval(copies, groups) == pytest.approx(bootstrap_interval(subject_means))
    narrow = bootstrap_interval(copies)
    low, high = bootstrap_interval(subject_means)
    assert narrow[1] - narrow[0] == pytest.approx((high - low) / math.sqrt(50), rel=0.1)


def test_covers_the_mean_of_a_normal_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(200):
        low, high = bootstrap_interval(rng.normal(2.0, 1.0, 50), resamples=400)
        covered.append(low <= 2.0 <= high)
    assert abs(np.mean(covered) - 0.95) < norm.ppf(0.9999) * math.sqrt(0.95 * 0.05 / 200)


def test_is_the_same_at_every_call() -> None:
    values = np.arange(10.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_subjects_of_unequal_size_weigh_by_their_values() -> None:
    sums = group_sums(np.array([1.0, 2.0, 4.0]), ["b", "a", "b"])
    np.testing.assert_array_equal(sums, [2.0, 5.0])
    weights = bootstrap_weights(6, resamples=50)
    np.testing.assert_array_equal(weights.sum(axis=1), 6)
    low, high = bootstrap_interval(np.array([0.0, 0, 0, 3.0]), ["a", "a", "a", "b"])
    assert (low, high) == (0.0, 3.0)


def test_one_subject_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval(np.arange(5.0), ["a"] * 5)).all()
    assert np.isnan(percentile_interval(np.full(3, np.nan), n_groups=4)).all()


def test_bad_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="one group per value"):
        bootstrap_interval(np.arange(5.0), ["a"])
