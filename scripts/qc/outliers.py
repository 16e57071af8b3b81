"""Which numbers of which rows stand out among those of their group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from scripts.qc.numbers import OUTLYING, robust_z
from scripts.qc.rows import Row

__all__ = ["Judged", "judge", "number"]

_SKEWED = ("lesion [ml]",)  # sizes that span decades: judged by their logarithm


@dataclass(frozen=True)
class Judged:
    """What stands out.

    Attributes:
        measures: names of all numbers, in the order in which rows have them.
        groups: names of all groups, sorted.
        medians: (group, number) -> median and robust deviation, in words.
        found: row -> number -> robust z of those that stand out.
    """

    measures: list[str]
    groups: list[str]
    medians: dict[tuple[str, str], str] = field(default_factory=dict)
    found: dict[str, dict[str, float]] = field(default_factory=dict)

    def outliers(self, row: Row) -> dict[str, float]:
        """Return the robust z of each number of a row that stands out."""
        return self.found.get(row.name, {})


def judge(rows: Sequence[Row]) -> Judged:
    """Return which numbers stand out among those of the same name and group, by `robust_z`."""
    judged = Judged(
        measures=list(dict.fromkeys(name for row in rows for name in row.measures)),
        groups=sorted({row.group for row in rows}),
    )
    for group in judged.groups:
        members = [row for row in rows if row.group == group]
        for name in judged.measures:
            holders = [row for row in members if math.isfinite(row.measures.get(name, math.nan))]
            if not holders:
                continue
            values = [row.measures[name] for row in holders]
            judged.medians[group, name] = _middle(values)
            for row, z in zip(holders, robust_z(_comparable(name, values)), strict=True):
                if abs(z) > OUTLYING:
                    judged.found.setdefault(row.name, {})[name] = z
    return judged


def number(value: float) -> str:
    """Return a number to three digits, whole from 100 on."""
    if not math.isfinite(value):
        return "n/a"
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:#.3g}".rstrip(".")


def _comparable(name: str, values: Sequence[float]) -> list[float]:
    if name in _SKEWED and min(values) > 0:
        return [math.log(value) for value in values]
    return list(values)


def _middle(values: Sequence[float]) -> str:
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(np.asarray(values) - middle)))
    return f"{number(middle)} ± {number(spread)} (n = {len(values)})"
