"""Which scores make which table, and the order of what it lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError, subject_values
from scripts.experiment.results.wording import MODALITIES, SITES
from scripts.tasks import TASKS, Metric
from scripts.variants import VARIANTS, variant_order

__all__ = ["SCORE_TABLES", "ScoreTable", "in_table_order", "score_values"]

_ORDER = {name: place for place, name in enumerate((*SITES, *MODALITIES))}


@dataclass(frozen=True)
class ScoreTable:
    """Which scores make a table: those of a task; ``printed``: whether the paper has this table."""

    name: str
    title: str
    task: str
    metrics: tuple[Metric, ...]
    printed: bool = True


def _tables() -> Iterable[ScoreTable]:
    for task in TASKS.values():
        number, words = task.table
        yield ScoreTable(f"table{number}", f"Table {number}: {words}", task.name, task.metrics)
        if task.extra:
            name, title = f"table{number}_{task.extra_words[0]}", f"Table {number}, besides: {task.extra_words[1]}"
            yield ScoreTable(name, title, task.name, (task.extra,), printed=False)


SCORE_TABLES = tuple(_tables())


def score_values(results: Results, table: ScoreTable, metric: Metric) -> pd.DataFrame:
    """Return a value per subject of the paper's variants, random and scratch, in the metric's unit.

    Columns are those of `scripts.experiment.results.scores.subject_values`; a table without rows where there are none.
    """
    try:
        values = subject_values(results.scores, table.task, metric)
    except NothingFoundError:
        return pd.DataFrame()
    return values[values["variant"].isin(VARIANTS)].reset_index(drop=True)


def in_table_order(frame: pd.DataFrame, by: Iterable[str]) -> pd.DataFrame:
    """Return the rows sorted by columns: sites, modalities and variants as in the paper, all else by value."""
    return frame.sort_values(list(by), key=_places, kind="stable", ignore_index=True)


def _places(column: pd.Series) -> pd.Series:
    names = column.unique()
    if column.name in ("variant", "second"):
        ordered = variant_order(names)
    else:
        ordered = sorted(names, key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    return column.map({name: place for place, name in enumerate(ordered)})
