"""What the comparisons say, in sentences made from the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

__all__ = ["Tally", "agreement_with_paper", "tallies"]

LEVEL = 0.05


@dataclass(frozen=True)
class Tally:
    """How one variant does against another over the cells of a table.

    Attributes:
        table: name of the table.
        metric: that is compared.
        first: the variant.
        second: the other.
        cells: site, modality and label fraction pairs that both have.
        ahead: cells in which the first's mean is better.
        clearly_ahead: of these, those whose corrected p is below 0.05.
        clearly_behind: the same the other way round.
        median: of the cells' mean differences, in the table's unit; positive is better for the first.
    """

    table: str
    metric: str
    first: str
    second: str
    cells: int
    ahead: int
    clearly_ahead: int
    clearly_behind: int
    median: float


def tallies(comparisons: pd.DataFrame) -> list[Tally]:
    """Count where one variant is ahead of another.

    Args:
        comparisons: a row per cell and pair: ``table``, ``metric``, ``first``, ``second``, ``gain`` (mean difference,
            positive where the first is better), ``p_holm``.
    """
    found = []
    for keys, rows in comparisons.groupby(["table", "metric", "first", "second"], sort=False):
        gain, clear = rows["gain"].to_numpy(), rows["p_holm"].to_numpy() < LEVEL
        table, metric, first, second = (str(key) for key in keys)
        found.append(
            Tally(
                table=table,
                metric=metric,
                first=first,
                second=second,
                cells=len(rows),
                ahead=int((gain > 0).sum()),
                clearly_ahead=int(((gain > 0) & clear).sum()),
                clearly_behind=int(((gain < 0) & clear).sum()),
                median=float(np.median(gain)),
            )
        )
    return found


def agreement_with_paper(cells: pd.DataFrame, first: str, seconds: Sequence[str]) -> pd.DataFrame:
    """Return how far differences between variants agree with those that the paper prints.

    Args:
        cells: a row per table cell: ``table``, ``metric``, ``site``, ``modality``, ``fraction``, ``variant``, ``mean``
            and ``paper_mean`` in the same unit; HD95 counts with its sign turned, so that more is better.
        first: the variant that is compared.
        seconds: those that it is compared with.

    Returns:
        ``table``, ``metric``, ``first``, ``second``, ``cells`` (that both have), ``same_sign``, ``paper_ahead`` and
        ``ours_ahead`` (cells in which the first is better), ``spearman`` (rank correlation of the differences; NaN for
        fewer than four cells).
    """
    keys = ["site", "modality", "fraction"]
    rows = []
    for (table, metric), part in cells.groupby(["table", "metric"], sort=False):
        sign = -1.0 if metric == "HD95" else 1.0
        ours = sign * part.pivot_table(index=keys, columns="variant", values="mean")
        theirs = sign * part.pivot_table(index=keys, columns="variant", values="paper_mean")
        for second in (name for name in seconds if name in ours and first in ours and name in theirs):
            both = pd.DataFrame({"ours": ours[first] - ours[second], "paper": theirs[first] - theirs[second]}).dropna()
            if both.empty:
                continue
            enough = len(both) >= 4 and both.nunique().min() > 1
            rows.append(
                {
                    "table": table,
                    "metric": metric,
                    "first": first,
                    "second": second,
                    "cells": len(both),
                    "same_sign": int((np.sign(both["ours"]) == np.sign(both["paper"])).sum()),
                    "paper_ahead": int((both["paper"] > 0).sum()),
                    "ours_ahead": int((both["ours"] > 0).sum()),
                    "spearman": float(stats.spearmanr(both["ours"], both["paper"])[0]) if enough else float("nan"),
                }
            )
    return pd.DataFrame(rows)
