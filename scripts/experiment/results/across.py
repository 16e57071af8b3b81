"""Scores of networks on other modalities than the one that they were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError, StudiedScore, seed_values
from scripts.experiment.results.wording import MODALITIES, in_order
from scripts.tasks import TASKS, Metric, Task

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
        on: tested modality -> its scores; that with labels first, then the others in their order, then `OTHERS`.
    """

    task: str
    metric: Metric
    trained: str
    fraction: float
    on: Mapping[str, StudiedScore]

    @property
    def tested(self) -> list[str]:
        """What stands in the columns."""
        return list(self.on)

    @property
    def by_seed(self) -> pd.DataFrame:
        """All scores, as `scripts.experiment.results.scores.seed_values` returns them, ``modality`` the tested one."""
        return pd.concat([score.by_seed for score in self.on.values()], ignore_index=True)

    @property
    def is_repeated(self) -> bool:
        """Whether trainings were repeated, so that their scatter is known."""
        return any(score.repeated for score in self.on.values())

    def means(self) -> pd.DataFrame:
        """Return ``variant``, ``tested``, ``mean``, ``low``, ``high`` and ``n``, see `StudiedScore.intervals`."""
        rows = [{"tested": tested, **row} for tested, score in self.on.items() for row in score.intervals()]
        return pd.DataFrame(rows).rename(columns={"value": "mean"})

    def differences(self, second: str) -> pd.DataFrame:
        """Return ``variant``, ``tested``, ``difference``, ``low``, ``high``, ``n`` and ``p``, see `StudiedScore`."""
        rows: list[dict[str, Any]] = []
        for tested, score in self.on.items():
            for variant in score.by_seed["variant"].unique():
                found = {} if variant == second else score.difference(variant, second)
                if found:
                    rows.append({"variant": variant, "tested": tested, **found, "p": found.get("p", float("nan"))})
        return pd.DataFrame(rows)


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
            keys = ["variant", "fraction", "site", "subject", "seed"]
            others = table[table["modality"] != trained].groupby(keys, as_index=False)["value"].mean()
            parts = [table, others.assign(modality=OTHERS)] if table["modality"].nunique() > 2 else [table]
            yield _scored(task, trained, fraction, pd.concat(parts, ignore_index=True))


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
                yield _scored(task, trained, fraction, rows)


def _scored(task: Task, trained: str, fraction: float, by_seed: pd.DataFrame) -> AcrossScores:
    """Return scores by the tested modality, ``modality`` in ``by_seed``."""
    on = {}
    for tested in in_order(by_seed["modality"], (trained, *MODALITIES, OTHERS)):
        own = by_seed[by_seed["modality"] == tested]
        on[tested] = StudiedScore(task.name, task.headline, tested, fraction, own)
    return AcrossScores(task.name, task.headline, trained, fraction, on)
