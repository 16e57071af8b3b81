"""Statistics over repeated trainings: what another seed may give, its scatter pooled over the variants."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

__all__ = ["Scatter", "compare_trainings", "training_interval", "training_scatter"]


@dataclass(frozen=True)
class Scatter:
    """How far trainings of one recipe lie apart.

    Attributes:
        deviation: standard deviation of a training's value; NaN where nothing was repeated.
        freedom: degrees of freedom that it was estimated with.
    """

    deviation: float
    freedom: int

    def half_width(self, variance: float) -> float:
        """Return half the 95 % Student t interval of a combination of trainings.

        Args:
            variance: of the combination, in units of a training's: 1 / n for the mean of n, 2 / n for the difference of
                two such means.
        """
        if self.freedom < 1:
            return float("nan")
        return float(stats.t.ppf(0.975, self.freedom) * self.deviation * np.sqrt(variance))


def training_scatter(by_training: pd.DataFrame, factors: Sequence[str] = ("variant",)) -> Scatter:
    """Return the scatter of trainings about what the factors explain, pooled over all of them.

    Two or three trainings of a single recipe say next to nothing about their scatter; those of all variants together,
    taken to scatter alike, do. This is the residual deviation of an analysis of variance without interactions, by least
    squares, so that seeds which a variant lacks do no harm.

    Args:
        by_training: ``variant``, ``seed`` and ``value``, a row per training.
        factors: ``("variant",)`` for the scatter about each variant's own mean; ``("variant", "seed")`` where variants
            are compared seed by seed, so that what a seed does to all variants alike (its label subset, its patches)
            does not count.

    References:
        Fisher 1925, Statistical Methods for Research Workers, chapter VII; blocks: Montgomery, Design and Analysis of
        Experiments, chapter 4.
    """
    from statsmodels.regression.linear_model import OLS

    levels = [by_training[name].to_numpy() for name in factors]
    design = np.concatenate([own[:, None] == np.unique(own) for own in levels], axis=1, dtype=np.float64)
    with warnings.catch_warnings():
        # with a column for every level of several factors it is, which changes no residual
        warnings.filterwarnings("ignore", message="The design matrix is rank-deficient")
        model = OLS(by_training["value"].to_numpy(dtype=np.float64), design)
        freedom = int(model.df_resid)
        return Scatter(float(np.sqrt(model.fit().scale)) if freedom else float("nan"), freedom)


def training_interval(means: ArrayLike, scatter: Scatter) -> tuple[float, float]:
    """Return the Student t interval of the mean of values of repeated trainings: what another training may give.

    Args:
        means: (N,) one value per seed.
        scatter: as of `training_scatter`.

    Returns:
        (low, high) that cover at 95 % where trainings scatter normally and all variants alike; NaN where nothing was
        repeated.

    References:
        Student 1908, doi:10.2307/2331554.
    """
    values = np.asarray(means, dtype=np.float64)
    half = scatter.half_width(1 / len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def compare_trainings(by_seed: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    """Compare two variants over repeated trainings: each seed's mean difference over the same subjects is one value.

    Args:
        by_seed: ``variant``, ``seed``, ``site``, ``subject``, ``value``, as
            `scripts.experiment.results.scores.seed_values` returns them, of one modality and label fraction and of all
            variants, whose trainings tell the scatter.
        first: a variant.
        second: another.

    Returns:
        ``difference`` (mean of first - second), ``low`` and ``high`` (95 % Student t interval by the scatter of all
        variants beside the seeds', see `training_scatter`; of two variants alone, that of the paired t test) and ``n``,
        the number of seeds that both have; empty where there are none.
    """
    table = by_seed.pivot(index=["seed", "site", "subject"], columns="variant", values="value")
    if first not in table or second not in table:
        return {}
    by_training = (table[first] - table[second]).dropna().groupby("seed").mean().to_numpy(dtype=np.float64)
    if not len(by_training):
        return {}
    means = by_seed.groupby(["variant", "seed"], as_index=False)["value"].mean()
    half = training_scatter(means, ("variant", "seed")).half_width(2 / len(by_training))
    difference = float(by_training.mean())
    return {"difference": difference, "low": difference - half, "high": difference + half, "n": len(by_training)}
