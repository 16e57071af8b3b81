"""Scores of networks on other modalities than the one that they were trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError, seed_values
from scripts.experiment.results.statistics import cell_statistics, compare_variants
from scripts.experiment.results.training_scatter import compare_trainings, training_interval, training_scatter
from scripts.experiment.results.wording import MODALITIES, in_order
from scripts.tasks import TASKS, Metric

__all__ = ["OTHERS", "AcrossScores", "across_scores", "own_scores"]

OTHERS = "others"
"""In the place of a tested modality: the mean of all but the one that was trained on."""


@dataclass(frozen=True)
class AcrossScores:
    """Scores of the networks of one task that were trained on one modality and label fraction.

    Attributes:
        task, metric: what is measured.
        trained: the modality with labels.
        fraction: of the labels.
        by_seed: ``variant``, ``tested``, ``site``, ``subject``, ``seed``, ``value`` in the metric's unit, one per
            subject and tested modality, and one where ``tested`` is `OTHERS`.
    """

    task: str
    metric: Metric
    trained: str
    fraction: float
    by_seed: pd.DataFrame

    @property
    def tested(self) -> list[str]:
        """The modality with labels, the others in their order, and `OTHERS`."""
        return in_order(self.by_seed["tested"], (self.trained, *MODALITIES, OTHERS))

    @property
    def is_repeated(self) -> bool:
        """Whether trainings were repeated, so that their scatter is known."""
        return bool(self.by_seed["seed"].nunique() > 1)

    def on(self, tested: str) -> pd.DataFrame:
        """Return the rows of one tested modality."""
        return self.by_seed[self.by_seed["tested"] == tested]

    def values(self, tested: str) -> pd.DataFrame:
        """Return a value per variant and subject, its seeds averaged: ``variant``, ``site``, ``subject``, ``value``."""
        keys = ["variant", "site", "subject"]
        return self.on(tested).groupby(keys, as_index=False).agg(value=("value", "mean"), seeds=("seed", "nunique"))

    def by_training(self, tested: str) -> pd.DataFrame:
        """Return a value per variant and seed, its subjects averaged: ``variant``, ``seed``, ``value``."""
        return self.on(tested).groupby(["variant", "seed"], as_index=False)["value"].mean()

    def means(self) -> pd.DataFrame:
        """Return ``variant``, ``tested``, ``mean``, ``low``, ``high`` and ``n``.

        The interval is over trainings (Student's t, their scatter pooled over the variants; n seeds) where they were
        repeated, else over subjects (bootstrap; n subjects).
        """
        rows: list[dict[str, Any]] = []
        for tested in self.tested:
            names = {"tested": tested}
            if self.is_repeated:
                table = self.by_training(tested)
                scatter = training_scatter(table)
                for variant, own in table.groupby("variant"):
                    low, high = training_interval(own["value"], scatter)
                    found = {"mean": own["value"].mean(), "low": low, "high": high, "n": len(own)}
                    rows.append({"variant": variant, **names, **found})
                continue
            cells = cell_statistics(_in_one_cell(self.values(tested)))
            rows += [
                {**names, **{key: row[key] for key in ("variant", "mean", "low", "high", "n")}}
                for row in cells.to_dict("records")
            ]
        return pd.DataFrame(rows)

    def differences(self, second: str) -> pd.DataFrame:
        """Return ``variant``, ``tested``, ``difference``, ``low``, ``high`` and ``n``: how each differs from another.

        The interval is as in `means`, paired by seed or by subject; where it is over subjects, ``p`` is that of
        Wilcoxon's signed-rank test, NaN otherwise.
        """
        rows: list[dict[str, Any]] = []
        for tested in self.tested:
            for variant in self.by_seed["variant"].unique():
                if variant == second:
                    continue
                found = self._difference(tested, variant, second)
                if found:
                    rows.append({"variant": variant, "tested": tested, **found})
        return pd.DataFrame(rows)

    def _difference(self, tested: str, first: str, second: str) -> dict[str, Any]:
        if self.is_repeated:
            found = compare_trainings(self.on(tested), first, second)
            return {**found, "p": float("nan")} if found else {}
        table = compare_variants(_in_one_cell(self.values(tested)), first, [second], better=self.metric.better)
        names = ("difference", "low", "high", "n", "p")
        return {name: table.iloc[0][name] for name in names} if len(table) else {}


def across_scores(results: Results) -> Iterator[AcrossScores]:
    """Yield the scores of each task, trained modality and label fraction, by the task's headline metric."""
    if results.across.empty:
        return
    for task in TASKS.values():
        for (trained, fraction), rows in results.across.groupby(["modality", "fraction"]):
            try:
                table = seed_values(rows.assign(modality=rows["tested"]), task.name, task.headline)
            except NothingFoundError:
                continue
            table = table.rename(columns={"modality": "tested"}).drop(columns="fraction")
            keys = ["variant", "site", "subject", "seed"]
            others = table[table["tested"] != trained].groupby(keys, as_index=False)["value"].mean()
            parts = [table, others.assign(tested=OTHERS)] if table["tested"].nunique() > 2 else [table]
            yield AcrossScores(task.name, task.headline, trained, fraction, pd.concat(parts, ignore_index=True))


def own_scores(results: Results) -> Iterator[AcrossScores]:
    """Yield the scores of each task on the modality that a network was trained on, where it was tested on no other."""
    across = {(own.task, own.trained, own.fraction) for own in across_scores(results)}
    for task in TASKS.values():
        try:
            table = seed_values(results.scores, task.name, task.headline)
        except NothingFoundError:
            continue
        for (trained, fraction), rows in table.groupby(["modality", "fraction"]):
            if (task.name, trained, fraction) not in across:
                by_seed = rows.rename(columns={"modality": "tested"}).drop(columns="fraction")
                yield AcrossScores(task.name, task.headline, trained, fraction, by_seed)


def _in_one_cell(values: pd.DataFrame) -> pd.DataFrame:
    """Return values as the statistics of cells take them, all sites together."""
    return values.assign(modality="", fraction=1.0, site="all", subject=values["site"] + " " + values["subject"])
