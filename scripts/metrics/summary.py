"""Means over subjects of a tidy table of scores, with their uncertainty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from scripts.errors import InputError

__all__ = ["COLUMNS", "format_summary", "summarise", "tell_empty"]

COLUMNS = ("subject", "site", "modality", "class", "metric", "value")
"""Of a table of scores."""

_GROUP = ["site", "modality", "class", "metric"]
_POOLED = ("DSC", "HD95")
_COUNTS = ("empty_prediction", "empty_truth")


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return mean and uncertainty over the subjects of each site, modality, class and metric.

    Where there are several classes, DSC and HD95 also have a class ``all``: their mean over the classes within each
    subject first, because the classes of one subject are not independent.

    Args:
        table: one row per score, with the columns `COLUMNS`.

    Returns:
        One row per site, modality, class and metric, in the order of the table, with ``n`` (subjects), ``mean``,
        ``standard_error`` (s / sqrt(n), s with n - 1), ``low`` and ``high`` (95 % Student-t interval of the mean;
        both and the standard error are NaN for n = 1) and ``total``: of ``empty_prediction`` and ``empty_truth``
        how many there are, of which ``mean`` is the share; NaN for other metrics.

    Raises:
        InputError: columns missing, no rows, a value that is not finite, two scores for one, or a subject that
            lacks a class others have.

    Examples:
        >>> rows = [(f"sub-{n}", "Guys", "T1w", "lesion", "DSC", value) for n, value in enumerate((0.7, 0.8, 0.9))]
        >>> found = summarise(pd.DataFrame(rows, columns=list(COLUMNS)))
        >>> found.loc[0, ["n", "mean", "standard_error"]].astype(float).round(4).tolist()  # 0.1 / sqrt(3)
        [3.0, 0.8, 0.0577]
    """
    _check(table)
    rows: list[dict[str, Any]] = []
    for _, part in table.groupby(["site", "modality"], sort=False, dropna=False):
        both = pd.concat([part, _over_classes(part)], ignore_index=True)
        for keys, scores in both.groupby(_GROUP, sort=False, dropna=False):
            rows.append({**dict(zip(_GROUP, keys, strict=True)), **_mean(keys[-1], scores["value"].to_numpy())})
    return pd.DataFrame(rows)


def format_summary(summary: pd.DataFrame) -> str:
    """Return the result of `summarise` as text, one line per row; counts as "3 of 20 subjects".

    Examples:
        >>> rows = [(f"sub-{n}", "Guys", "T1w", "lesion", "DSC", value) for n, value in enumerate((0.7, 0.8, 0.9))]
        >>> print(format_summary(summarise(pd.DataFrame(rows, columns=list(COLUMNS)))))
        site  modality  class   metric  n   mean  error  95 % interval
        Guys  T1w       lesion  DSC     3  0.800  0.058  [0.552, 1.048]
    """
    titles = ("site", "modality", "class", "metric", "n", "mean", "error", "95 % interval")
    lines = [titles, *(_cells(row) for _, row in summary.iterrows())]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    is_text = [title in _GROUP or title == titles[-1] for title in titles]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, is_text, strict=True)
        ).rstrip()
        for line in lines
    )


def tell_empty(table: pd.DataFrame) -> str:
    """Return in words how often a class was not predicted or did not occur in a table of scores.

    It is empty for a table without ``empty_prediction`` and ``empty_truth``, as of denoising.

    Examples:
        >>> tell_empty(pd.DataFrame({"metric": ["empty_truth"] * 3, "value": [0.0, 1.0, 0.0]}))
        '1 of 3 truths are empty, scored all the same.'
    """
    told = []
    for metric in _COUNTS:
        flags = table[table["metric"] == metric]["value"]
        if len(flags):
            told.append(f"{flags.sum():.0f} of {len(flags)} {metric.removeprefix('empty_')}s are empty")
    return " and ".join(told) + ", scored all the same." if told else ""


def _check(table: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing or table.empty:
        raise InputError(
            f"a table of scores needs rows and the columns {', '.join(COLUMNS)}, got {len(table)} rows "
            f"of {', '.join(map(str, table.columns))}: evaluate a subject or more"
        )
    for flaw, told in (
        (~np.isfinite(table["value"].to_numpy(dtype=np.float64)), "is not finite: evaluate it again"),
        (table.duplicated(["subject", *_GROUP]).to_numpy(), "is there twice: score each subject once"),
    ):
        if flaw.any():
            row = table[flaw].iloc[0]
            raise InputError(f"{row['metric']} of {row['class']} of subject {row['subject']} {told}")


def _over_classes(part: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the class ``all`` of one site and modality; none where there is one class."""
    pooled = part[part["metric"].isin(_POOLED)]
    if pooled["class"].nunique() < 2:
        return part.iloc[:0]
    by_class = pooled.pivot(index=["metric", "subject"], columns="class", values="value")
    if by_class.isna().to_numpy().any():
        metric, subject = by_class.index[by_class.isna().any(axis=1)][0]
        raise InputError(f"subject {subject} has no {metric} of some class that others have: evaluate it again")
    first = part.iloc[0]
    means = by_class.mean(axis=1).rename("value").reset_index()
    return means.assign(site=first["site"], modality=first["modality"], **{"class": "all"})


def _mean(metric: str, values: Any) -> dict[str, float]:
    n, mean = len(values), float(np.mean(values))
    error = float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    half = float(stats.t.ppf(0.975, n - 1)) * error if n > 1 else float("nan")
    total = float(np.sum(values)) if metric in _COUNTS else float("nan")
    return {"n": n, "mean": mean, "standard_error": error, "low": mean - half, "high": mean + half, "total": total}


def _cells(row: Any) -> tuple[str, ...]:
    names = tuple(str(row[name]) for name in _GROUP)
    if row["metric"] in _COUNTS:
        return (*names, str(row["n"]), f"{row['mean']:.3f}", "", f"{row['total']:.0f} of {row['n']} subjects")
    if row["n"] == 1:
        return (*names, "1", f"{row['mean']:.3f}", "", "")
    interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
    return (*names, str(row["n"]), f"{row['mean']:.3f}", f"{row['standard_error']:.3f}", interval)
