"""The cross-contrast matrix: labels on one modality, tests on every other, every variant and recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.results.across import OTHERS, AcrossScores, across_scores
from scripts.experiment.results.collect import Results
from scripts.experiment.results.wording import cohort_words, fraction_words
from scripts.experiment.tables.text import Cell, Row, Table
from scripts.tasks import TASKS
from scripts.variants import variant_label, variant_order

__all__ = ["REFERENCE", "across_differences", "across_table", "recipe_words"]

REFERENCE = "scratch"
"""What a user would take instead: the recipes are compared with it."""

_NAMES = {OTHERS: "mean of the others"}
_OVER_SEEDS = (
    "95 % t interval over the seeds, each with a pretraining, a draw of the labelled person and a training of its own; "
    "their scatter is taken to be the same for all variants, and pooled"
)
_OVER_SUBJECTS = "95 % bootstrap interval over the test subjects, which does not say how much a second training differs"


def across_table(results: Results) -> Table:
    """Return the score of every variant and recipe on every modality, a part per modality with labels.

    The frame has a row per task, ``trained`` modality, ``fraction``, ``variant`` and ``tested`` modality: ``mean``,
    ``low``, ``high``, ``n``, see `AcrossScores.means`.
    """
    scores = list(across_scores(results))
    title = "Across contrasts: labels on one, tests on every other"
    parts = [(own, part, _score_cells(own, part)) for own in scores for part in [own.means()]]
    words = f"Best of a part and column bold. {recipe_words(results)}"
    return _laid_out("across", title, parts, lambda: f"{_caption(results, scores)} {words}")


def across_differences(results: Results) -> Table:
    """Return how every variant and recipe differs from a network trained from scratch, on every modality.

    The frame has the rows of `across_table`, with ``difference``, ``low``, ``high``, ``n`` and ``p``, see
    `AcrossScores.differences`.
    """
    scores = list(across_scores(results))
    title = "Across contrasts: what each recipe gains on a network trained from scratch"
    found = ((own, own.differences(REFERENCE)) for own in scores)
    parts = [(own, part, _difference_cells(own, part)) for own, part in found if len(part)]
    words = "Bold where the interval leaves out 0; not corrected for the number of questions."
    return _laid_out(
        "across_differences", title, parts, lambda: f"Mean difference, paired. {_caption(results, scores)} {words}"
    )


def recipe_words(results: Results) -> str:
    """Return a sentence on what the recipes of a grid do, empty where it has none."""
    told = [f"{variant_label(name)}: {words}" for name, words in results.recipes.items()]
    return "; ".join(told) + "." if told else ""


Cells = dict[tuple[str, str], Cell]
"""Variant and tested modality -> what stands there."""


def _framed(parts: Sequence[tuple[AcrossScores, pd.DataFrame, Cells]]) -> pd.DataFrame:
    told = [
        part.assign(task=own.task, trained=own.trained, fraction=own.fraction, metric=own.metric.name)
        for own, part, _ in parts
    ]
    frame = pd.concat(told, ignore_index=True)
    ahead = ["task", "metric", "trained", "fraction", "variant", "tested"]
    return frame[[*ahead, *(name for name in frame if name not in ahead)]]


def _score_cells(own: AcrossScores, part: pd.DataFrame) -> Cells:
    best = part.groupby("tested")["mean"].transform("max" if own.metric.better == "higher" else "min")
    rows = part.assign(best=part["mean"] == best).to_dict("records")
    return {
        (row["variant"], row["tested"]): Cell(_told(row, "mean", own.metric.digits, ""), int(row["best"]))
        for row in rows
    }


def _difference_cells(own: AcrossScores, part: pd.DataFrame) -> Cells:
    return {
        (row["variant"], row["tested"]): Cell(
            _told(row, "difference", own.metric.digits, "+"), int(row["low"] > 0 or row["high"] < 0)
        )
        for row in part.to_dict("records")
    }


def _told(row: dict[str, Any], name: str, digits: int, sign: str) -> str:
    form = f"{sign}.{digits}f"
    interval = "" if np.isnan(row["low"]) else f" [{row['low']:{form}}, {row['high']:{form}}]"
    return f"{row[name]:{form}}{interval}"


def _laid_out(
    name: str, title: str, parts: Sequence[tuple[AcrossScores, pd.DataFrame, Cells]], caption: Callable[[], str]
) -> Table:
    if not parts:
        return Table(name, title, "", pd.DataFrame())
    columns = list(dict.fromkeys(tested for own, _, _ in parts for tested in own.tested))
    rows: list[Row] = []
    for own, _, cells in parts:
        task = TASKS[own.task]
        rows.append(Row(f"{task.title}: labels on {own.trained}, {fraction_words(own.fraction)}"))
        for variant in variant_order({variant for variant, _ in cells}):
            rows.append(Row(variant_label(variant), tuple(cells.get((variant, t), Cell()) for t in columns)))
    heads = [_NAMES.get(tested, tested) for tested in columns]
    return Table(name, title, caption(), _framed(parts), ("tested on", *heads), rows=tuple(rows))


def _caption(results: Results, scores: Sequence[AcrossScores]) -> str:
    units = dict.fromkeys(f"{own.metric.label} in {own.metric.unit}" for own in scores)
    over = _OVER_SEEDS if any(own.is_repeated for own in scores) else _OVER_SUBJECTS
    seeds = max(own.by_seed["seed"].nunique() for own in scores)
    subjects = max(own.by_seed["subject"].nunique() for own in scores)
    return (
        f"{', '.join(units)}, mean over classes and over {subjects} test subjects of all sites, "
        f"{'one seed' if seeds == 1 else f'{seeds} seeds'}; in brackets the {over}. "
        f"{cohort_words(results.across).capitalize()}."
    )
