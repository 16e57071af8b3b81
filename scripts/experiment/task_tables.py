"""Tables 1, 2 and 3 of the paper, of the grid's own runs, and the tests between variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.figures.palette import variant_label
from scripts.experiment.figures.values import NothingToDrawError, subject_values, told_cohort, told_missing
from scripts.experiment.results import VARIANTS, Results, variant_order
from scripts.experiment.statistics import cell_statistics, compare_variants, holm
from scripts.experiment.table_text import EMPTY, Cell, Row, Table

__all__ = ["Layout", "comparison_table", "paper_tables", "task_tables"]

_DOMAIN = "Guys"
_SITES = {"Guys": "GST", "HH": "HH", "IOP": "IOP", "ARC": "ARC"}
_ORDER = {name: place for place, name in enumerate(("Guys", "ARC", "HH", "IOP", "T1w", "T2w", "PDw", "FLAIR"))}
_KEYS = ["site", "modality", "fraction", "variant"]


@dataclass(frozen=True)
class Layout:
    """Which scores make a table.

    Attributes:
        name: of the table.
        title: a few words.
        task: whose scores.
        metrics: (name, unit as told, factor, better: higher or lower, decimals).
    """

    name: str
    title: str
    task: str
    metrics: tuple[tuple[str, str, float, str, int], ...]


LAYOUTS = (
    Layout("table1", "Table 1: tissue segmentation", "ixi_seg", (("DSC", "%", 100.0, "higher", 1),)),
    Layout(
        "table2",
        "Table 2: stroke lesions",
        "arc_lesion",
        (("DSC", "%", 100.0, "higher", 1), ("HD95", "mm", 1.0, "lower", 1)),
    ),
    Layout("table3", "Table 3: denoising", "ixi_denoise", (("PSNR", "dB", 1.0, "higher", 1),)),
    Layout("gain", "Denoising: gain over the noisy image", "ixi_denoise", (("PSNR_gain", "dB", 1.0, "higher", 2),)),
)


def paper_tables() -> pd.DataFrame:
    """Return what the paper prints in its Tables 1 to 3: means and standard errors in percent, mm and dB."""
    return pd.read_csv(Path(__file__).with_name("paper_tables.csv"))


def task_tables(results: Results) -> list[Table]:
    """Return the tables that the finished runs have scores for, the paper's numbers beneath their own."""
    tables = [_task_table(results, layout) for layout in LAYOUTS]
    return [table for table in tables if not table.frame.empty]


def comparison_table(results: Results, first: str = "seqinv") -> Table:
    """Return the paired tests of one variant against the others, in every cell of Tables 1 to 3.

    The frame has a row per cell and pair: those of `compare_variants`, ``table``, ``metric``, and ``p_holm``, corrected
    for the number of tests of that table.
    """
    frames = []
    for layout in LAYOUTS[:3]:
        parts = []
        for metric, _, scale, better, _ in layout.metrics:
            values = _values(results, layout.task, metric, scale)
            others = [name for name in VARIANTS if name != first]
            found = compare_variants(values, first, others, better=better) if len(values) else pd.DataFrame()
            if len(found):
                parts.append(found.assign(table=layout.name, metric=metric))
        if parts:
            family = pd.concat(parts, ignore_index=True)
            frames.append(family.assign(p_holm=holm(family["p"])))
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    rows = tuple(_comparison_row(row) for row in frame.to_dict("records")) if len(frame) else ()
    return Table(
        name="comparisons",
        title=f"{variant_label(first)} against the others, subject by subject",
        caption=(
            f"Difference of {variant_label(first)} less the other variant (percent, mm, dB), mean over the same test "
            "subjects with its 95 % bootstrap interval; two-sided p of Wilcoxon's signed-rank test, and p after Holm's "
            "correction for all tests of that table. n subjects allow no p below 2^(1-n), so a site with few subjects "
            "cannot be clear after correction, whatever the difference. In HD95 less is better."
        ),
        frame=frame,
        columns=("cell", "against", "difference", "95 % interval", "n", "p", "p (Holm)"),
        rows=rows,
    )


def _values(results: Results, task: str, metric: str, scale: float) -> pd.DataFrame:
    try:
        values = subject_values(results.scores, task, metric, scale=scale)
    except NothingToDrawError:
        return pd.DataFrame()
    return values[values["variant"].isin(VARIANTS)]


def _task_table(results: Results, layout: Layout) -> Table:
    frames = []
    for metric, _, scale, better, _ in layout.metrics:
        values = _values(results, layout.task, metric, scale)
        if len(values):
            frames.append(_ranked(cell_statistics(values), better).assign(metric=metric))
    if not frames:
        return Table(layout.name, layout.title, "", pd.DataFrame())
    paper = paper_tables().query("table == @layout.name").drop(columns=["table", "task"])
    paper = paper.rename(columns={"mean": "paper_mean", "standard_error": "paper_se"})
    frame = pd.concat(frames, ignore_index=True).merge(paper, how="left", on=[*_KEYS, "metric"])
    return _laid_out(results, layout, frame)


def _ranked(cells: pd.DataFrame, better: str) -> pd.DataFrame:
    """Add ``best`` and ``second`` among the variants of a site, modality and fraction; ties share."""
    ascending = better == "lower"
    place = cells.groupby(["site", "modality", "fraction"])["mean"].rank(method="dense", ascending=ascending)
    several = cells.groupby(["site", "modality", "fraction"])["variant"].transform("nunique") > 1
    return cells.assign(best=(place == 1) & several, second=(place == 2) & several)


def _laid_out(results: Results, layout: Layout, frame: pd.DataFrame) -> Table:
    variants = variant_order(frame["variant"].unique())
    # columns in groups: label fractions, or metrics where there are several
    several = len(layout.metrics) > 1
    keys = [m[0] for m in layout.metrics] if several else sorted(frame["fraction"].unique())
    names = [f"{m[0]} ({m[1]})" for m in layout.metrics] if several else [f"{fraction:.0%} labels" for fraction in keys]
    by = "metric" if several else "fraction"
    decimals = {m[0]: m[4] for m in layout.metrics}
    found = {(row["site"], row["modality"], row[by], row["variant"]): row for row in frame.to_dict("records")}
    places = sorted({key[:2] for key in found}, key=lambda place: [_ORDER.get(name, 99) for name in place])
    inside = [place for place in places if place[0] in (_DOMAIN, "ARC")]
    rows: list[Row] = []
    for heading, part in (("In domain", inside), ("Out of domain", [place for place in places if place not in inside])):
        ours = [_row(place, keys, variants, found, decimals) for place in part]
        rows += [Row(heading), *ours] if ours and len(inside) < len(places) else ours
    theirs = [_paper_row(place, keys, variants, found) for place in places]
    if any(cell.text != EMPTY for row in theirs for cell in row.cells):
        rows += [Row("The paper's, on patients, at full size"), *theirs]
    return Table(
        name=layout.name,
        title=layout.title,
        caption=_caption(results, layout, frame),
        frame=frame,
        columns=("", *(variant_label(variant) for _ in keys for variant in variants)),
        groups=tuple((name, len(variants)) for name in names),
        rows=tuple(rows),
    )


def _row(
    place: tuple[str, str],
    keys: Sequence[object],
    variants: Sequence[str],
    found: dict[Any, Any],
    decimals: dict[str, int],
) -> Row:
    cells = []
    for key in keys:
        for variant in variants:
            number = found.get((*place, key, variant))
            if number is None:
                cells.append(Cell())
                continue
            digits = decimals[number["metric"]]
            error = number["standard_error"]
            told = f"{number['mean']:.{digits}f}" + ("" if np.isnan(error) else f" ± {error:.{digits}f}")
            cells.append(Cell(told, 1 if number["best"] else 2 if number["second"] else 0))
    return Row(f"{_SITES.get(place[0], place[0])} [{place[1]}]", tuple(cells))


def _paper_row(place: tuple[str, str], keys: Sequence[object], variants: Sequence[str], found: dict[Any, Any]) -> Row:
    cells = []
    for key in keys:
        for variant in variants:
            number = found.get((*place, key, variant), {})
            known = np.isfinite(number.get("paper_mean", np.nan))
            cells.append(Cell(f"{number['paper_mean']:.1f} ± {number['paper_se']:.1f}" if known else EMPTY))
    return Row(f"{_SITES.get(place[0], place[0])} [{place[1]}]", tuple(cells))


def _caption(results: Results, layout: Layout, frame: pd.DataFrame) -> str:
    own = results.runs[results.runs["task"] == layout.task]
    counts = frame.groupby("site")["n"].max()
    subjects = ", ".join(f"{_SITES.get(site, site)} {count}" for site, count in counts.items())
    seeds = frame["n_seeds"].max()
    units = ", ".join(f"{m[0]} in {m[1]} ({m[3]} is better)" for m in layout.metrics)
    simulated = " Not comparable with the paper's, which are of patients." if "embedded" in set(own["cohort"]) else ""
    several = f"{seeds} seeds, averaged within a subject" if seeds > 1 else "one seed"
    return (
        f"{units}: mean ± standard error over test subjects ({subjects}), {several}; {told_cohort(own)}.{simulated} "
        f"Best bold, second underlined, of each site, modality and label fraction; GST (Guys) is where labels come from."
        f"{told_missing(results, layout.task)}"
    )


def _comparison_row(row: dict[str, Any]) -> Row:
    digits = 2
    place = f"{_SITES.get(row['site'], row['site'])} [{row['modality']}] {row['fraction']:.0%}, {row['metric']}"
    told = [variant_label(row["second"]), f"{row['difference']:+.{digits}f}"]
    told += [f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}", str(row["n"])]
    cells = [Cell(text) for text in (*told, f"{row['p']:.3g}", f"{row['p_holm']:.3g}")]
    return Row(place, tuple(cells))
