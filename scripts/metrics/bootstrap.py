"""Percentile bootstrap intervals over subjects (Efron 1979)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scripts.errors import InputError

__all__ = ["bootstrap_interval", "bootstrap_weights", "group_sums", "percentile_interval"]


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[str] | NDArray[np.generic] | None = None,
    *,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of ``values``, resampling whole subjects.

    A drawn subject brings all of its values, because values of one subject are not independent. The draws are
    the same at every call.

    Args:
        values: (N,).
        groups: (N,) subject of each value; None when every value is a subject of its own.
        resamples: number of bootstrap draws.

    Returns:
        (low, high); both NaN when there are fewer than two subjects.

    Raises:
        InputError: values and groups differ in length, or there are no values.

    Examples:
        Of two subjects, half of the draws hold both; the others hold one of them twice:

        >>> bootstrap_interval([0.0, 0.0, 0.0, 3.0], ["a", "a", "a", "b"])
        (0.0, 3.0)
    """
    array = np.asarray(values, dtype=np.float64)
    groups = np.arange(len(array)) if groups is None else groups
    if array.ndim != 1 or len(array) == 0 or len(groups) != len(array):
        msg = f"bootstrap needs one group per value, got {array.shape} values and {len(groups)} groups"
        raise InputError(msg)
    sums = group_sums(np.stack([array, np.ones_like(array)], axis=1), groups)
    totals = bootstrap_weights(len(sums), resamples=resamples) @ sums
    return percentile_interval(totals[:, 0] / totals[:, 1], n_groups=len(sums))


def bootstrap_weights(n_groups: int, *, resamples: int = 2000) -> NDArray[np.float64]:
    """Return how often each subject occurs in each draw, (resamples, n_groups); the same at every call.

    Examples:
        >>> bootstrap_weights(5, resamples=3).sum(axis=1).tolist()
        [5.0, 5.0, 5.0]
    """
    generator = np.random.default_rng(0)
    return generator.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=resamples).astype(np.float64)


def percentile_interval(draws: NDArray[np.float64], *, n_groups: int) -> tuple[float, float]:
    """Return the central 95 % interval of the finite draws; NaN for fewer than two subjects.

    Examples:
        >>> percentile_interval(np.append(np.arange(1001.0), np.nan), n_groups=9)
        (25.0, 975.0)
    """
    draws = draws[np.isfinite(draws)]
    if n_groups < 2 or len(draws) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def group_sums(values: NDArray[np.float64], groups: Sequence[str] | NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the sums of ``values`` (N, ...) over each group, (G, ...), in sorted order of the groups.

    Examples:
        >>> group_sums(np.array([1.0, 2.0, 4.0]), ["b", "a", "b"]).tolist()
        [2.0, 5.0]
    """
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(index.max()) + 1, *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums
