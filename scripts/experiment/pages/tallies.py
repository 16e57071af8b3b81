"""How often variants are ahead of one another, and how far that agrees with the paper: counts over table cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from scripts.experiment.tables.comparisons import CLEAR
from scripts.experiment.tables.score_tables import SCORE_TABLES

__all__ = ["Tally", "agreement_with_paper", "tallies"]


@dataclass(frozen=True)
class Tally:
    """How one variant does against another in a table.

    Attributes:
        table: name of the table.
        metric: that is compared.
        first: the variant.
        second: the other.
        cells: site, modality and label fraction pairs that both have.
        ahead: cells in which the first's mean is better.
        median: of the cells' mean differences, in the table's unit; positive is better for the first.
        better: parts of the table over all modalities in which the first is clearly better.
        worse: those in which it is clearly worse.
        parts: how many parts there are.
    """

    table: str
    metric: str
    first: str
    second: str
    cells: int
    ahead: int
    median: float
    better: tuple[str, ...]
    worse: tuple[str, ...]
    parts: int


def tallies(cells: pd.DataFrame, overall: pd.DataFrame) -> list[Tally]:
    """Count where one variant is ahead of another, and name where it is so clearly: a corrected p below `CLEAR`.

    Args:
        cells: frame of `scripts.experiment.tables.comparisons.comparison_table`.
        overall: frame of `scripts.experiment.tables.comparisons.overall_table`: tests over all modalities, each subject
            counted once, because the few subjects of a single cell can hardly be clear about anything.
    """
    keys = ["table", "metric", "first", "second"]
    found = []
    for names, rows in cells.groupby(keys, sort=False):
        parts = overall[(overall[keys] == pd.Series(dict(zip(keys, names, strict=True)))).all(axis=1)]
        sure = parts[parts["p_holm"] < CLEAR]
        gain = rows["gain"].to_numpy()
        table, metric, first, second = (str(name) for name in names)
        found.append(
            Tally(
                table=table,
                metric=metric,
                first=first,
                second=second,
                cells=len(rows),
                ahead=int((gain > 0).sum()),
                median=float(np.median(gain)),
                better=tuple(sure.loc[sure["gain"] > 0, "part"]),
                worse=tuple(sure.loc[sure["gain"] < 0, "part"]),
                parts=len(parts),
            )
        )
    return found


def agreement_with_paper(cells: pd.DataFrame, first: str, seconds: Sequence[str]) -> pd.DataFrame:
    """Return how far differences between variants agree with those that the paper prints.

    Args:
        cells: a row per table cell: ``table``, ``metric``, ``site``, ``modality``, ``fraction``, ``variant``, ``mean``
            and ``paper_mean`` in the same unit. Where less is better the sign is turned.
        first: the variant that is compared.
        seconds: those that it is compared with.

    Returns:
        ``table``, ``metric``, ``first``, ``second``, ``cells`` (that both have), ``same_sign``, ``paper_ahead`` and
        ``ours_ahead`` (cells in which the first is better), ``spearman`` (rank correlation of the differences; NaN for
        fewer than four cells, or where one side does not vary).
    """
    return pd.DataFrame(_agreements(cells, first, seconds))


def _agreements(cells: pd.DataFrame, first: str, seconds: Sequence[str]) -> Iterator[dict[str, object]]:
    lower = {(layout.name, m.name) for layout in SCORE_TABLES for m in layout.metrics if m.better == "lower"}
    keys = ["site", "modality", "fraction"]
    for (table, metric), part in cells.groupby(["table", "metric"], sort=False):
        sign = -1.0 if (table, metric) in lower else 1.0
        ours = sign * part.pivot_table(index=keys, columns="variant", values="mean")
        theirs = sign * part.pivot_table(index=keys, columns="variant", values="paper_mean")
        for second in seconds:
            if not all(name in frame for name in (first, second) for frame in (ours, theirs)):
                continue
            both = pd.DataFrame({"ours": ours[first] - ours[second], "paper": theirs[first] - theirs[second]}).dropna()
            if both.empty:
                continue
            varied = len(both) >= 4 and both.nunique().min() > 1
            yield {
                "table": table,
                "metric": metric,
                "first": first,
                "second": second,
                "cells": len(both),
                "same_sign": int((np.sign(both["ours"]) == np.sign(both["paper"])).sum()),
                "paper_ahead": int((both["paper"] > 0).sum()),
                "ours_ahead": int((both["ours"] > 0).sum()),
                "spearman": float(stats.spearmanr(both["ours"], both["paper"])[0]) if varied else float("nan"),
            }
