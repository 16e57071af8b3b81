"""What the tables have in common: which scores they are of, the order and the names of what they list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError, subject_values
from scripts.experiment.results.wording import MODALITIES, SITES
from scripts.variants import VARIANTS, variant_order

__all__ = [
    "LAYOUTS",
    "Layout",
    "Metric",
    "in_table_order",
    "layout_values",
]

_ORDER = {name: place for place, name in enumerate((*SITES, *MODALITIES))}


@dataclass(frozen=True)
class Metric:
    """A measure as a table prints it.

    Attributes:
        name: in the scores.
        label: that is read.
        unit: that is read.
        scale: factor from the score to the unit.
        better: higher or lower.
        digits: behind the point.
    """

    name: str
    label: str
    unit: str
    scale: float = 1.0
    better: str = "higher"
    digits: int = 1


@dataclass(frozen=True)
class Layout:
    """Which scores make a table: those of a task; ``printed``: whether the paper has this table."""

    name: str
    title: str
    task: str
    metrics: tuple[Metric, ...]
    printed: bool = True


_DSC = Metric("DSC", "DSC", "%", scale=100.0)
LAYOUTS = (
    Layout("table1", "Table 1: tissue segmentation", "ixi_seg", (_DSC,)),
    Layout(
        "table2",
        "Table 2: stroke lesion segmentation",
        "arc_lesion",
        (_DSC, Metric("HD95", "HD95", "mm", 1.0, "lower")),
    ),
    Layout("table3", "Table 3: denoising", "ixi_denoise", (Metric("PSNR", "PSNR", "dB"),)),
    Layout(
        "table3_gain",
        "Table 3, besides: gain over the noisy image",
        "ixi_denoise",
        (Metric("PSNR_gain", "PSNR gain", "dB", digits=2),),
        printed=False,
    ),
)


def layout_values(results: Results, layout: Layout, metric: Metric) -> pd.DataFrame:
    """Return a value per subject of the paper's variants, random and scratch, in the metric's unit.

    Columns are those of `scripts.experiment.results.scores.subject_values`; a table without rows where there are none.
    """
    try:
        values = subject_values(results.scores, layout.task, metric.name, scale=metric.scale)
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
