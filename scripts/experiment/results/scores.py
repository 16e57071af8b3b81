"""Scores by subject and by training, and means over subjects with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.statistics import cell_statistics, compare_variants
from scripts.experiment.results.training_scatter import compare_trainings, training_interval, training_scatter
from scripts.metrics.bootstrap import bootstrap_interval
from scripts.tasks import TASKS, Metric
from scripts.variants import VARIANTS, variant_order

__all__ = [
    "NothingFoundError",
    "StudiedScore",
    "means",
    "seed_values",
    "studied_scores",
    "subject_values",
]

_CELL = ["variant", "modality", "fraction", "site", "subject"]


class NothingFoundError(Exception):
    """The results hold nothing of what is asked for; the message says what is missing."""


def subject_values(scores: pd.DataFrame, task: str, metric: Metric) -> pd.DataFrame:
    """Return one value per subject: its classes are averaged, then its seeds.

    Args:
        scores: `Results.scores`.
        task: whose scores.
        metric: which; values are in its unit.

    Returns:
        ``variant``, ``modality``, ``fraction``, ``site``, ``subject``, ``value``, and ``seeds`` that were averaged.

    Raises:
        NothingFoundError: there are none.
    """
    return _over_seeds(seed_values(scores, task, metric))


def _over_seeds(by_seed: pd.DataFrame) -> pd.DataFrame:
    return by_seed.groupby(_CELL, as_index=False).agg(value=("value", "mean"), seeds=("seed", "nunique"))


def seed_values(scores: pd.DataFrame, task: str, metric: Metric) -> pd.DataFrame:
    """Return one value per subject and seed, with the arguments of `subject_values`: its classes are averaged.

    Returns:
        ``variant``, ``modality``, ``fraction``, ``site``, ``subject``, ``seed``, ``value``.

    Raises:
        NothingFoundError: there are none.
    """
    rows = scores[(scores["task"] == task) & (scores["metric"] == metric.name)] if len(scores) else scores
    if rows.empty:
        raise NothingFoundError(f"no finished run has {metric.name} of {task}")
    by_seed = rows.groupby([*_CELL, "seed"], as_index=False)["value"].mean()
    return by_seed.assign(value=by_seed["value"] * metric.scale)


@dataclass(frozen=True)
class StudiedScore:
    """A score on which variants are compared.

    Attributes:
        task, metric, modality, fraction: which score.
        by_seed: of all variants, as `seed_values` returns them.
    """

    task: str
    metric: Metric
    modality: str
    fraction: float
    by_seed: pd.DataFrame

    @property
    def values(self) -> pd.DataFrame:
        """The same with seeds averaged, as `subject_values` returns them."""
        return _over_seeds(self.by_seed)

    @property
    def by_training(self) -> pd.DataFrame:
        """A row per training, its mean over the test subjects: ``variant``, ``seed``, ``value``."""
        return self.by_seed.groupby(["variant", "seed"], as_index=False)["value"].mean()

    @property
    def repeated(self) -> bool:
        """Whether trainings were repeated, so that their scatter is known."""
        return bool(self.by_seed["seed"].nunique() > 1)

    def intervals(self) -> Iterator[dict[str, Any]]:
        """Yield ``variant``, ``value`` (mean), ``low``, ``high`` and ``n`` of each variant.

        The interval is over trainings (Student's t, their scatter pooled over the variants; n seeds) where they were
        repeated, else over subjects (bootstrap; n subjects).
        """
        if self.repeated:
            scatter = training_scatter(self.by_training)
            for variant, part in self.by_training.groupby("variant"):
                low, high = training_interval(part["value"], scatter)
                mean = float(part["value"].mean())
                yield {"variant": variant, "value": mean, "low": low, "high": high, "n": len(part)}
            return
        for row in cell_statistics(self.values.assign(site="all")).to_dict("records"):
            yield {
                "variant": row["variant"],
                "value": row["mean"],
                **{name: row[name] for name in ("low", "high", "n")},
            }

    def difference(self, first: str, second: str) -> dict[str, Any]:
        """Return ``difference``, ``low``, ``high`` and ``n`` of two variants, paired; empty where they share nothing.

        The interval is as in `intervals`; where it is over subjects, ``p`` is that of Wilcoxon's signed-rank test.
        """
        if self.repeated:
            return compare_trainings(self.by_seed, first, second)
        table = compare_variants(self.values.assign(site="all"), first, [second], better=self.metric.better)
        names = ("difference", "low", "high", "n", "p")
        return {name: table.iloc[0][name] for name in names} if len(table) else {}


def studied_scores(results: Results) -> Iterator[StudiedScore]:
    """Yield each score that any variant of the study was tested on; recipes are none."""
    for task in TASKS.values():
        try:
            by_seed = seed_values(results.scores, task.name, task.headline)
        except NothingFoundError:
            continue
        tested = by_seed[~by_seed["variant"].isin([*VARIANTS, *results.recipes])]
        for (modality, fraction), _ in tested.groupby(["modality", "fraction"]):
            own = by_seed[(by_seed["modality"] == modality) & (by_seed["fraction"] == fraction)]
            yield StudiedScore(task.name, task.headline, modality, fraction, own)


def means(
    values: pd.DataFrame,
    by: Sequence[str],
    interval: Callable[[np.ndarray], tuple[float, float]] = bootstrap_interval,
) -> pd.DataFrame:
    """Return mean and 95 % interval of each group, by default of the bootstrap over subjects.

    Args:
        values: as `subject_values` returns them.
        by: columns that name the group.
        interval: of the mean of a group's values, (low, high).

    Returns:
        ``by``, ``mean``, ``low``, ``high`` (NaN for a single subject) and ``n`` subjects, a row per group; variants
        in the order of the tables.
    """
    rows = []
    for key, group in values.groupby(list(by)):
        low, high = interval(group["value"].to_numpy())
        numbers = {"mean": group["value"].mean(), "low": low, "high": high, "n": len(group)}
        rows.append({**dict(zip(by, key, strict=True)), **numbers})
    table = pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "n"])
    if "variant" not in by:
        return table
    places = {name: place for place, name in enumerate(variant_order(table["variant"].unique()))}
    return table.sort_values(list(by), key=lambda c: c.map(places) if c.name == "variant" else c, ignore_index=True)
