"""Paired tests between variants over the same test subjects, cell by cell and over many cells together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.statistics import compare_overall, compare_variants, holm
from scripts.experiment.results.wording import cohort_words, fraction_words, is_training_site, place_name, seed_words
from scripts.experiment.tables.score_tables import SCORE_TABLES, ScoreTable, in_table_order, score_values
from scripts.experiment.tables.text import EMPTY, Cell, Row, Table
from scripts.tasks import Metric
from scripts.variants import VARIANTS, variant_label

__all__ = ["CLEAR", "comparison_table", "overall_table"]

_FIRST = "seqinv"
_OTHERS = [name for name in VARIANTS if name != _FIRST]
CLEAR = 0.05
"""Corrected p below which a difference is called clear."""

_COLUMNS = ("against", "difference", "95 % interval", "n", "p", "p (Holm)", "clearly better")
_OVERALL = ("against", "cells", *_COLUMNS[1:])
_CELL = ["site", "modality", "fraction", "second"]
_READ = (
    "mean over the same test subjects with its 95 % bootstrap interval over subjects; two-sided p of Wilcoxon's "
    "signed-rank test, and p after Holm's correction for all tests of the same table; bold where that is below 0.05. "
    "In HD95 less is better. n subjects allow no p below 2^(1-n): five or fewer cannot reach 0.05, and a few more "
    "cannot after correction for many tests, however large the difference."
)


def comparison_table(results: Results) -> Table:
    """Return the paired tests of SeqInv against the other variants, in every cell of Tables 1 to 3.

    The frame has a row per cell and pair: those of `compare_variants`, ``table``, ``metric``, ``p_holm``, corrected for
    the number of tests of that table, and ``cohort``.
    """

    def tested(values: pd.DataFrame, metric: Metric) -> pd.DataFrame:
        found = compare_variants(values, _FIRST, _OTHERS, better=metric.better)
        return in_table_order(found, _CELL) if len(found) else found

    frame = _families(results, tested)
    return Table(
        name="comparisons",
        title=f"{variant_label(_FIRST)} against the others, cell by cell",
        caption=f"Difference of {variant_label(_FIRST)} less the other variant: {_READ}{_scope(results, frame)}",
        frame=frame,
        columns=("", *_COLUMNS) if len(frame) else (),
        rows=tuple(
            _rows(frame, lambda row: f"{place_name(row['site'], row['modality'])} {fraction_words(row['fraction'])}")
        ),
    )


def overall_table(results: Results) -> Table:
    """Return the paired tests of SeqInv against the other variants over many cells together, each subject counted once.

    The frame has a row per pair and part (a label fraction at all sites, all label fractions in or out of domain):
    those of `compare_overall`, ``part``, ``table``, ``metric``, ``p_holm``, corrected for the number of tests of that
    table, and ``cohort``.
    """

    def tested(values: pd.DataFrame, metric: Metric) -> pd.DataFrame:
        found = [
            compare_overall(part, _FIRST, _OTHERS, better=metric.better).assign(part=name)
            for name, part in _parts(values)
        ]
        return pd.concat(found, ignore_index=True)

    frame = _families(results, tested)
    return Table(
        name="comparisons_overall",
        title=f"{variant_label(_FIRST)} against the others, over all modalities",
        caption=(
            f"Difference of {variant_label(_FIRST)} less the other variant, averaged within a subject over the "
            "modalities that both variants have, and over the label fractions where all are named (cells: sites times "
            f"modalities times label fractions): {_READ}{_scope(results, frame)}"
        ),
        frame=frame,
        columns=("", *_OVERALL) if len(frame) else (),
        rows=tuple(_rows(frame, lambda row: str(row["part"]))),
    )


def _format_p(p: float) -> str:
    """Return a p value with three digits behind the point."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _parts(values: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each label fraction at all sites, then all label fractions of each domain."""
    fractions = sorted(values["fraction"].unique())
    inside = values["site"].map(is_training_site)
    domains = [] if inside.all() or not inside.any() else [("in domain", inside), ("out of domain", ~inside)]
    for fraction in fractions:
        place = ", all sites" if domains else ""
        yield f"{fraction_words(fraction)}{place}", values[values["fraction"] == fraction]
    for name, chosen in domains:
        several = ", all label fractions" if len(fractions) > 1 else ""
        yield f"{name}{several}", values[chosen]


def _families(results: Results, tested: Callable[[pd.DataFrame, Metric], pd.DataFrame]) -> pd.DataFrame:
    """Return the tests of the paper's three tables, corrected within each."""
    families = []
    for spec in (spec for spec in SCORE_TABLES if spec.printed):
        parts = [_tested(results, spec, metric, tested) for metric in spec.metrics]
        family = pd.concat(parts, ignore_index=True)
        if len(family):
            families.append(family.assign(p_holm=holm(family["p"])))
    if not families:
        return pd.DataFrame()
    frame = pd.concat(families, ignore_index=True)
    ahead = ["table", "metric", *(name for name in ("part", *_CELL[:3]) if name in frame), "first", "second"]
    return frame[[*ahead, *(name for name in frame if name not in ahead)]]


def _tested(
    results: Results,
    spec: ScoreTable,
    metric: Metric,
    tested: Callable[[pd.DataFrame, Metric], pd.DataFrame],
) -> pd.DataFrame:
    values = score_values(results, spec, metric)
    if values.empty:
        return pd.DataFrame()
    cohorts = sorted(results.scores.loc[results.scores["task"] == spec.task, "cohort"].unique())
    found = tested(values, metric)
    return found.assign(table=spec.name, metric=metric.name, cohort="+".join(cohorts)) if len(found) else found


def _rows(frame: pd.DataFrame, label: Callable[[dict[str, Any]], str]) -> Iterator[Row]:
    titles = {(spec.name, m.name): f"{spec.title}, {m.label} ({m.unit})" for spec in SCORE_TABLES for m in spec.metrics}
    for keys, part in frame.groupby(["table", "metric"], sort=False) if len(frame) else ():
        yield Row(titles[keys])
        for row in part.to_dict("records"):
            yield Row(label(row), _cells(row))


def _cells(row: dict[str, Any]) -> tuple[Cell, ...]:
    clear = row["p_holm"] < CLEAR
    interval = EMPTY if np.isnan(row["low"]) else f"{row['low']:+.2f} to {row['high']:+.2f}"
    few = " (n too small)" if row["smallest_p"] > CLEAR else ""
    winner = variant_label(row["first"] if row["gain"] > 0 else row["second"]) if clear else EMPTY
    return (
        Cell(variant_label(row["second"])),
        *([Cell(str(row["cells"]))] if "cells" in row else []),
        Cell(f"{row['difference']:+.2f}", int(clear)),
        Cell(interval),
        Cell(str(row["n"])),
        Cell(_format_p(row["p"]) + few),
        Cell(_format_p(row["p_holm"])),
        Cell(winner, int(clear)),
    )


def _scope(results: Results, frame: pd.DataFrame) -> str:
    if frame.empty:
        return ""
    own = results.scores[results.scores["variant"].isin(VARIANTS)]
    seeds = seed_words(own["seed"])
    return (
        f" {cohort_words(own).capitalize()}, {seeds}. Intervals and p are over subjects: they say what these trainings "
        "differ by, not how much another training of the same variants would."
    )
