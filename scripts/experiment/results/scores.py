"""What figures draw of the scores: a value per subject, and means over subjects with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.results.collect import VARIANTS, Results, variant_order
from scripts.metrics.bootstrap import bootstrap_interval

__all__ = [
    "Drawing",
    "NothingToDrawError",
    "StudiedScore",
    "error_bars",
    "means",
    "seed_values",
    "studied_scores",
    "subject_values",
    "told_cohort",
    "told_missing",
    "told_seeds",
]

_STUDIED = (("ixi_seg", "DSC", 100.0, "%"), ("arc_lesion", "DSC", 100.0, "%"), ("ixi_denoise", "PSNR", 1.0, "dB"))
_CELL = ["variant", "modality", "fraction", "site", "subject"]
_COHORTS = {"embedded": "simulated cohort", "real": "real data"}


class NothingToDrawError(Exception):
    """The results hold nothing for a figure; the message says what is missing."""


@dataclass(frozen=True)
class Drawing:
    """A figure before it is a file.

    Attributes:
        title: of the figure, a few words.
        caption: what is drawn, of what, and how to read it.
        figure: the matplotlib figure.
    """

    title: str
    caption: str
    figure: Any


def subject_values(scores: pd.DataFrame, task: str, metric: str, *, scale: float = 1.0) -> pd.DataFrame:
    """Return one value per subject: its classes are averaged, then its seeds.

    Args:
        scores: `Results.scores`.
        task: whose scores.
        metric: which.
        scale: factor on the values, as 100 for percent.

    Returns:
        ``variant``, ``modality``, ``fraction``, ``site``, ``subject``, ``value``, and ``seeds`` that were averaged.

    Raises:
        NothingToDrawError: there are none.
    """
    return _over_seeds(seed_values(scores, task, metric, scale=scale))


def _over_seeds(by_seed: pd.DataFrame) -> pd.DataFrame:
    return by_seed.groupby(_CELL, as_index=False).agg(value=("value", "mean"), seeds=("seed", "nunique"))


def seed_values(scores: pd.DataFrame, task: str, metric: str, *, scale: float = 1.0) -> pd.DataFrame:
    """Return one value per subject and seed, with the arguments of `subject_values`: its classes are averaged.

    Returns:
        ``variant``, ``modality``, ``fraction``, ``site``, ``subject``, ``seed``, ``value``.

    Raises:
        NothingToDrawError: there are none.
    """
    rows = scores[(scores["task"] == task) & (scores["metric"] == metric)] if len(scores) else scores
    if rows.empty:
        raise NothingToDrawError(f"no finished run has {metric} of {task}")
    by_seed = rows.groupby([*_CELL, "seed"], as_index=False)["value"].mean()
    return by_seed.assign(value=by_seed["value"] * scale)


@dataclass(frozen=True)
class StudiedScore:
    """A score that variants of the study were tested on.

    Attributes:
        task, metric, unit, modality, fraction: which score.
        by_seed: of all variants, as `seed_values` returns them.
    """

    task: str
    metric: str
    unit: str
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


def studied_scores(results: Results) -> Iterator[StudiedScore]:
    """Yield each score that any variant of the study was tested on."""
    for task, metric, scale, unit in _STUDIED:
        try:
            by_seed = seed_values(results.scores, task, metric, scale=scale)
        except NothingToDrawError:
            continue
        tested = by_seed[~by_seed["variant"].isin(VARIANTS)]
        for (modality, fraction), _ in tested.groupby(["modality", "fraction"]):
            own = by_seed[(by_seed["modality"] == modality) & (by_seed["fraction"] == fraction)]
            yield StudiedScore(task, metric, unit, modality, fraction, own)


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


def error_bars(table: pd.DataFrame) -> np.ndarray:
    """Return the lengths (2, N) of the intervals below and above the means of `means`, as matplotlib takes them."""
    lengths = np.stack([table["mean"] - table["low"], table["high"] - table["mean"]])
    # rounding leaves -1e-17 where all subjects are equal, which matplotlib refuses
    return np.where(np.isnan(lengths), np.nan, np.maximum(lengths, 0))


def told_cohort(frame: pd.DataFrame) -> str:
    """Return which cohorts the rows are of, in words."""
    return " and ".join(_COHORTS.get(name, name) for name in sorted(frame["cohort"].unique()))


def told_seeds(seeds: Iterable[int]) -> str:
    """Return how many seeds, in words."""
    count = len(set(seeds))
    return "one seed" if count == 1 else f"{count} seeds, averaged within a subject"


def told_missing(results: Results, task: str) -> str:
    """Return a sentence on the planned runs of a task that are not finished, empty where all are."""
    planned = results.planned
    if planned.empty:
        return ""
    own = planned[(planned["task"] == task) & planned["variant"].isin(VARIANTS)]
    lacking = len(own[~own["cell"].isin(results.runs["cell"])])
    return f" {lacking} of {len(own)} runs are not finished and missing here." if lacking else ""
