"""Statistics of a grid's scores over test subjects, whose seeds are averaged first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from scripts.errors import InputError
from scripts.metrics.bootstrap import bootstrap_interval

__all__ = [
    "cell_statistics",
    "compare_overall",
    "compare_variants",
    "holm",
    "paired_differences",
    "paired_test",
    "seed_spread",
]

_CELL = ["modality", "fraction", "site"]


def cell_statistics(values: pd.DataFrame) -> pd.DataFrame:
    """Return mean and uncertainty over the subjects of each cell.

    Args:
        values: ``variant``, ``modality``, ``fraction``, ``site``, ``subject``, ``value`` and ``seeds``, one row per
            subject, as `scripts.experiment.results.scores.subject_values` returns them.

    Returns:
        A row per variant, modality, fraction and site: ``mean``, ``standard_error`` (s / sqrt(n), s with n - 1; NaN for
        n = 1), ``low`` and ``high`` (95 % percentile bootstrap over subjects; NaN for n = 1), ``n`` subjects,
        ``n_seeds``.
    """
    rows = []
    for keys, group in values.groupby(["variant", *_CELL], sort=False):
        numbers = group["value"].to_numpy(dtype=np.float64)
        low, high = bootstrap_interval(numbers)
        error = float(np.std(numbers, ddof=1) / np.sqrt(len(numbers))) if len(numbers) > 1 else float("nan")
        names = dict(zip(["variant", *_CELL], keys, strict=True))
        found = {"mean": float(numbers.mean()), "standard_error": error, "low": low, "high": high, "n": len(numbers)}
        rows.append({**names, **found, "n_seeds": int(group["seeds"].max())})
    return pd.DataFrame(rows)


def paired_differences(values: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return first - second of every subject that both variants were tested on, cell by cell.

    Args:
        values: as of `cell_statistics`.
        first: a variant.
        second: another.

    Returns:
        ``modality``, ``fraction``, ``site``, ``subject``, ``difference``.
    """
    table = values.pivot(index=[*_CELL, "subject"], columns="variant", values="value")
    if first not in table or second not in table:
        return pd.DataFrame(columns=[*_CELL, "subject", "difference"])
    return (table[first] - table[second]).dropna().rename("difference").reset_index()


def compare_variants(values: pd.DataFrame, first: str, seconds: Sequence[str], *, better: str) -> pd.DataFrame:
    """Compare one variant with others, subject by subject, in every cell that both have.

    Args:
        values: as of `cell_statistics`.
        first: the variant.
        seconds: the others.
        better: ``higher`` or ``lower``.

    Returns:
        A row per cell and pair: ``first``, ``second``, ``modality``, ``fraction``, ``site``, ``difference`` (mean of
        first - second), ``gain`` (the same, positive where the first is better), ``low`` and ``high`` of the difference
        (95 % bootstrap over subjects), ``p`` (see `paired_test`), ``smallest_p`` that so few subjects allow, ``n``.
    """
    rows = []
    for second in seconds:
        for keys, cell in paired_differences(values, first, second).groupby(_CELL):
            names = {"first": first, "second": second, **dict(zip(_CELL, keys, strict=True))}
            rows.append({**names, **_compared(cell["difference"], better)})
    return pd.DataFrame(rows)


def compare_overall(values: pd.DataFrame, first: str, seconds: Sequence[str], *, better: str) -> pd.DataFrame:
    """Compare one variant with others over all cells together, each subject counted once.

    A subject's differences are averaged over the modalities and label fractions that both variants have of it, because
    values of one subject are not independent. All subjects together tell more than those of a single cell.

    Args:
        values: as of `cell_statistics`.
        first: the variant.
        seconds: the others.
        better: ``higher`` or ``lower``.

    Returns:
        A row per pair, the columns of `compare_variants` without modality, fraction and site, and ``cells``, the number
        of modalities, label fractions and sites.
    """
    rows = []
    for second in seconds:
        apart = paired_differences(values, first, second)
        if len(apart):
            by_subject = apart.groupby(["site", "subject"])["difference"].mean()
            found = _compared(by_subject, better)
            rows.append({"first": first, "second": second, **found, "cells": apart.groupby(_CELL).ngroups})
    return pd.DataFrame(rows)


def paired_test(differences: ArrayLike) -> tuple[float, float]:
    """Return the two-sided p of Wilcoxon's signed-rank test, and the smallest p that so many subjects allow.

    Exact up to 50 subjects, where differences are tied or zero up to 13; beyond that the normal approximation, as
    `scipy.stats.wilcoxon` does it. Differences of zero count for nothing, so n that are not zero allow no p below
    2^(1-n): five subjects or fewer never reach 0.05.

    Args:
        differences: (N,) of paired values; all zero has p = 1.

    References:
        Wilcoxon 1945, doi:10.2307/3001968.
    """
    values = np.asarray(differences, dtype=np.float64)
    smallest = min(1.0, 2.0 ** (1 - int(np.count_nonzero(values))))
    if not values.any():
        return 1.0, smallest
    return float(stats.wilcoxon(values).pvalue), smallest


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return p values corrected for their number by Holm's step-down procedure, in the order given.

    Args:
        p: (N,) of one family of tests.

    Raises:
        InputError: values that are no probabilities.

    References:
        Holm 1979, https://www.jstor.org/stable/4615733.
    """
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise InputError("Holm's correction needs one row of probabilities between 0 and 1: check the tests' p values")
    # statsmodels has the same numbers, and walks through all memory for every family
    order = np.argsort(values)
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(raised, 1)
    return corrected


def seed_spread(scores: pd.DataFrame) -> pd.DataFrame:
    """Return how far the means of several seeds lie apart.

    Args:
        scores: ``variant``, ``modality``, ``fraction``, ``site``, ``seed``, ``subject``, ``value``, of one task and
            metric.

    Returns:
        A row per variant, modality, fraction and site with two seeds or more: ``seeds`` and ``spread``, the standard
        deviation (n - 1) of the seeds' means over subjects.
    """
    keys = ["variant", *_CELL]
    by_seed = scores.groupby([*keys, "seed"], as_index=False)["value"].mean()
    found = by_seed.groupby(keys, as_index=False).agg(seeds=("seed", "nunique"), spread=("value", "std"))
    return found[found["seeds"] > 1].reset_index(drop=True)


def _compared(differences: pd.Series, better: str) -> dict[str, Any]:
    numbers = differences.to_numpy(dtype=np.float64)
    low, high = bootstrap_interval(numbers)
    p, smallest = paired_test(numbers)
    mean = float(numbers.mean())
    gain = mean if better == "higher" else -mean
    found = {"difference": mean, "gain": gain, "low": low, "high": high, "p": p, "smallest_p": smallest}
    return {**found, "n": len(numbers)}
