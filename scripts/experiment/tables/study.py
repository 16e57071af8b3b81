"""What of SeqInv helps: variants of the pretraining side by side, on what all of them were tested on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import StudiedScore, studied_scores
from scripts.experiment.results.training_scatter import Scatter, compare_trainings, training_interval, training_scatter
from scripts.experiment.results.wording import cohort_words
from scripts.experiment.tables.text import Cell, Row, Table
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["study_differences", "study_table"]

Compare = Callable[[str, str], dict[str, Any]]
"""Two variants -> the first's mean difference from the second, its interval and n; empty where they share nothing."""

_MEASURES = (
    ("pooled", "retrieval_top1", "retrieval across sequences (pooled)"),
    ("dense", "retrieval_top1", "retrieval across sequences (dense)"),
    ("dense", "tissue_r2_across_sequences", "tissue R2 across sequences (dense)"),
)
_INTERVALS = (
    "Value and 95 % bootstrap interval over subjects, the same test subjects for all; how much a second training would "
    "differ is not in it.",
    "Mean of the seeds' values and its 95 % t interval over the seeds: what pretraining and training once more may "
    "give, on the same test subjects. The scatter of trainings is taken to be the same for all variants, and pooled.",
)
_OF_DIFFERENCES = (
    "Interval: 95 % bootstrap over subjects, so between these trainings; whether the recipes differ takes more seeds.",
    "Interval: 95 % t interval over the seeds, so between the recipes and not only between single trainings, on these "
    "test subjects. The scatter of trainings is taken to be the same for all variants, and pooled; what a seed does to "
    "all variants alike is left out (analysis of variance with the seeds as blocks).",
)
_QUESTIONS = (
    ("seqaug", "base", "more contrasts in pretraining (SeqAug less Base)"),
    ("seqinv", "seqaug", "pairing across sequences (SeqInv less SeqAug)"),
    ("seqinv", "seqinv-no_l1", "the L1 branch (SeqInv less SeqInv without it)"),
    ("seqinv", "random", "all of it (SeqInv less the untrained encoder)"),
)


def study_table(results: Results) -> Table:
    """Return a row per variant, the paper's and the study's: invariance, and scores that all of them have.

    Scores are means over the test subjects of all sites. The frame has a row per variant and column: ``variant``,
    ``measure``, ``value``, ``low``, ``high``, ``n``.
    """
    studied = [name for name in _pretrained(results) if name not in VARIANTS]
    if not studied:
        return Table("study", "Study", "", pd.DataFrame())
    variants = [name for name in _pretrained(results) if name != "scratch"]
    frame = pd.DataFrame([row for part in (_invariance(results), _downstream(results)) for row in part])
    frame = frame[frame["variant"].isin(variants)].reset_index(drop=True)
    measures = list(dict.fromkeys(frame["measure"]))
    found = {(row["variant"], row["measure"]): row for row in frame.to_dict("records")}
    rows = [
        Row(variant_label(name), tuple(_cell(found.get((name, measure))) for measure in measures)) for name in variants
    ]
    return Table(
        name="study",
        title="Study: what of SeqInv helps",
        caption=(
            f"{_by_repetition(results, *_INTERVALS)} Retrieval: share of "
            "features whose nearest, among those of all places in another sequence, is of the same place"
            f"{_chance(results)}. Tissue R2: how well a linear map fitted in some sequences gives the tissue "
            "composition in another (0: no better than its mean). Scores: means over the test subjects of all sites. "
            f"{cohort_words(results.runs).capitalize()}, {_seeds(results)}."
        ),
        frame=frame,
        columns=("variant", *measures),
        rows=tuple(rows),
    )


def study_differences(results: Results) -> Table:
    """Return paired differences between variants in what they share: the study's answers.

    Measures of invariance are compared where trainings were repeated: their intervals over subjects are not paired.
    The frame has a row per question and measure: ``question``, ``measure``, ``first``, ``second``, ``difference``,
    ``low``, ``high`` and ``n``, of subjects, or of seeds where trainings were repeated.
    """
    studied = [name for name in _pretrained(results) if name not in VARIANTS]
    asked = {(first, second) for first, second, _ in _QUESTIONS}
    others = [name for name in studied if ("seqinv", name) not in asked]
    questions = [*_QUESTIONS, *((name, "seqinv", f"{variant_label(name)} less SeqInv") for name in others)]
    rows: list[dict[str, Any]] = []
    for measure, compare in [*_repeated_invariance(results), *_shared(results)]:
        for first, second, question in questions:
            found = {name: value for name, value in compare(first, second).items() if name != "p"}
            if found:
                rows.append({"question": question, "measure": measure, "first": first, "second": second, **found})
    frame = pd.DataFrame(rows)
    if frame.empty:
        return Table("study_differences", "Study: differences", "", frame)
    measures = list(dict.fromkeys(frame["measure"]))
    cells = {(row["question"], row["measure"]): row for row in rows}
    shown = [question for _, _, question in questions if any((question, m) in cells for m in measures)]
    return Table(
        name="study_differences",
        title="Study: differences",
        caption=(
            f"Mean difference on the same test subjects, of all sites. {_by_repetition(results, *_OF_DIFFERENCES)} "
            "Bold where the interval leaves out 0; not corrected for the number of questions. "
            f"{cohort_words(results.runs).capitalize()}, {_seeds(results)}."
        ),
        frame=frame,
        columns=("what is added or changed", *measures),
        rows=tuple(Row(q, tuple(_difference(cells.get((q, m))) for m in measures)) for q in shown),
    )


def _pretrained(results: Results) -> list[str]:
    found = results.invariance
    return variant_order(found["variant"].unique()) if len(found) else []


def _measured(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    rows = results.invariance
    if rows.empty:
        return  # nothing but untrained encoders
    for level, metric, name in _MEASURES:
        yield name, rows[(rows["level"] == level) & (rows["metric"] == metric)]


def _invariance(results: Results) -> Iterator[dict[str, Any]]:
    for name, rows in _measured(results):
        if repeated := rows["seed"].nunique() > 1:
            scatter = training_scatter(rows)
        for variant, part in rows.groupby("variant"):
            once = part.iloc[0][["value", "low", "high", "n"]].to_dict()
            found = _over_trainings(part["value"], scatter) if repeated else once
            yield {"variant": variant, "measure": name, **found}


def _repeated_invariance(results: Results) -> Iterator[tuple[str, Compare]]:
    for name, rows in _measured(results):
        if rows["seed"].nunique() > 1:
            # all held-out subjects together are one value of a training
            yield name, partial(compare_trainings, rows.assign(site="all", subject="all"))


def _shared(results: Results) -> Iterator[tuple[str, Compare]]:
    for score in studied_scores(results):
        yield _score_label(score), score.difference


def _score_label(score: StudiedScore) -> str:
    return f"{score.metric.label} {score.modality} {score.fraction:.0%} ({score.metric.unit})"


def _downstream(results: Results) -> Iterator[dict[str, Any]]:
    for score in studied_scores(results):
        measure = _score_label(score)
        for row in score.intervals():
            yield {"measure": measure, **row}


def _over_trainings(means: pd.Series, scatter: Scatter) -> dict[str, Any]:
    low, high = training_interval(means, scatter)
    return {"value": float(means.mean()), "low": low, "high": high, "n": len(means)}


def _cell(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell()
    form = _form(row, 1)
    return Cell(f"{row['value']:{form}}{_interval(row, form)}")


def _difference(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell()
    clear = row["low"] > 0 or row["high"] < 0
    form = f"+{_form(row, 2)}"
    return Cell(f"{row['difference']:{form}}{_interval(row, form)}", int(clear))


def _form(row: dict[str, Any], digits: int) -> str:
    return f".{3 if row['measure'] in {name for _, _, name in _MEASURES} else digits}f"


def _interval(row: dict[str, Any], form: str) -> str:
    return "" if np.isnan(row["low"]) else f" [{row['low']:{form}}, {row['high']:{form}}]"


def _chance(results: Results) -> str:
    found = results.invariance[results.invariance["metric"] == "retrieval_top1"]
    by_level = [f"{level} {part['chance'].iloc[0]:.3f}" for level, part in found.groupby("level", sort=False)]
    return f" (by chance: {', '.join(by_level)})" if by_level else ""


def _by_repetition(results: Results, once: str, repeated: str) -> str:
    return repeated if results.runs["seed"].nunique() > 1 else once


def _seeds(results: Results) -> str:
    count = results.runs["seed"].nunique()
    return "one seed" if count == 1 else f"{count} seeds"
