"""Tables 1, 2 and 3 of the paper, of the grid's own runs, the paper's numbers beneath."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.experiment.results.statistics import cell_statistics, seed_spread
from scripts.experiment.results.wording import (
    cohort_words,
    fraction_words,
    is_training_site,
    place_name,
    site_name,
    unfinished_words,
)
from scripts.experiment.tables.score_tables import SCORE_TABLES, ScoreTable, in_table_order, score_values
from scripts.experiment.tables.text import Cell, Row, Table
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["PAPER_HEADING", "paper_tables", "task_tables"]

PAPER_HEADING = "The paper's own numbers: real subjects, full-size network"

_PLACE = ["site", "modality", "fraction"]
_SHOWN = [*_PLACE, "metric", "variant"]
_OWN = ["mean", "standard_error", "low", "high", "n", "n_seeds", "spread", "best", "second"]


def paper_tables() -> pd.DataFrame:
    """Return what the paper prints in its Tables 1 to 3.

    Returns:
        ``table``, ``task``, ``site``, ``modality``, ``fraction``, ``variant``, ``metric``, ``mean`` and
        ``standard_error``, in percent, mm and dB.
    """
    return pd.read_csv(Path(__file__).with_name("paper_tables.csv"))


def task_tables(results: Results) -> list[Table]:
    """Return the tables that the finished runs have scores for.

    A frame has a row per site, modality, fraction, metric and variant: ``mean``, ``standard_error``, ``low``, ``high``,
    ``n``, ``n_seeds`` as of `cell_statistics`, ``spread`` between seeds, ``best``, ``second``, ``paper_mean``,
    ``paper_se`` and ``cohort``, in the unit of the table.
    """
    tables = [_task_table(results, spec) for spec in SCORE_TABLES]
    return [table for table in tables if not table.frame.empty]


def _task_table(results: Results, spec: ScoreTable) -> Table:
    frames = []
    for metric in spec.metrics:
        values = score_values(results, spec, metric)
        if len(values):
            cells = _ranked(cell_statistics(values), metric.better)
            frames.append(_with_spread(cells, results, spec.task, metric.name, metric.scale).assign(metric=metric.name))
    if not frames:
        return Table(spec.name, spec.title, "", pd.DataFrame())
    paper = paper_tables().query("table == @spec.name")
    paper = paper.rename(columns={"mean": "paper_mean", "standard_error": "paper_se"})
    frame = pd.concat(frames, ignore_index=True).merge(
        paper[[*_SHOWN, "paper_mean", "paper_se"]], how="left", on=_SHOWN
    )
    frame = in_table_order(frame, _SHOWN)[[*_SHOWN, *_OWN, "paper_mean", "paper_se"]]
    cohorts = sorted(results.scores.loc[results.scores["task"] == spec.task, "cohort"].unique())
    return _laid_out(results, spec, frame.assign(cohort="+".join(cohorts)))


def _ranked(cells: pd.DataFrame, better: str) -> pd.DataFrame:
    """Add ``best`` and ``second`` among the variants of a site, modality and fraction; ties share."""
    groups = cells.groupby(_PLACE)
    place = groups["mean"].rank(method="dense", ascending=better == "lower")
    several = groups["variant"].transform("nunique") > 1
    return cells.assign(best=(place == 1) & several, second=(place == 2) & several)


def _with_spread(cells: pd.DataFrame, results: Results, task: str, metric: str, scale: float) -> pd.DataFrame:
    """Add ``spread``, the standard deviation between seeds; NaN for one seed."""
    own = results.scores[(results.scores["task"] == task) & (results.scores["metric"] == metric)]
    spread = seed_spread(own.assign(value=own["value"] * scale)).drop(columns="seeds")
    return cells.merge(spread, how="left", on=["variant", *_PLACE])


def _laid_out(results: Results, spec: ScoreTable, frame: pd.DataFrame) -> Table:
    variants = variant_order(frame["variant"].unique())
    # columns in groups: label fractions, or metrics where there are several
    by = "metric" if len(spec.metrics) > 1 else "fraction"
    keys = list(dict.fromkeys(frame[by]))
    labels = {m.name: f"{m.label} ({m.unit})" for m in spec.metrics}
    groups = tuple((labels[key] if by == "metric" else fraction_words(key), len(variants)) for key in keys)
    columns = [(key, variant) for key in keys for variant in variants]
    digits = {m.name: m.digits for m in spec.metrics}
    rows: list[Row] = []
    inside = frame["site"].map(is_training_site)
    for label, part in (("In domain", frame[inside]), ("Out of domain", frame[~inside])):
        if len(part):
            rows += [Row(label, kind=label.lower().replace(" ", "-"))] if not inside.all() else []
            rows += _rows(part, by, columns, digits)
    theirs = _of_paper(frame, spec)
    if len(theirs):
        rows += [Row(PAPER_HEADING, kind="paper"), *_rows(theirs, by, columns, digits)]
    return Table(
        name=spec.name,
        title=spec.title,
        caption=_caption(results, spec, frame),
        frame=frame,
        columns=("", *(variant_label(variant) for _, variant in columns)),
        groups=groups,
        rows=tuple(rows),
    )


def _of_paper(frame: pd.DataFrame, spec: ScoreTable) -> pd.DataFrame:
    """Return the rows that the paper has too, its numbers in place of ours, ranked among themselves."""
    theirs = frame.dropna(subset="paper_mean")
    theirs = theirs.assign(mean=theirs["paper_mean"], standard_error=theirs["paper_se"], low=np.nan, high=np.nan)
    parts = [_ranked(theirs[theirs["metric"] == m.name], m.better) for m in spec.metrics]
    return in_table_order(pd.concat(parts), _SHOWN)


def _rows(frame: pd.DataFrame, by: str, columns: Sequence[tuple[Any, str]], digits: dict[str, int]) -> Iterator[Row]:
    """Yield a row per site and modality, and per label fraction where these are several and no columns."""
    several = by == "metric" and frame["fraction"].nunique() > 1
    for keys, part in frame.groupby(_PLACE if several else _PLACE[:2], sort=False):
        found = {(row[by], row["variant"]): row for row in part.to_dict("records")}
        cells = (_cell(found[column], digits) if column in found else Cell() for column in columns)
        label = place_name(keys[0], keys[1]) + (f" {fraction_words(keys[2])}" if several else "")
        yield Row(label, tuple(cells))


def _cell(row: dict[str, Any], digits: dict[str, int]) -> Cell:
    places = digits[row["metric"]]
    error = "" if np.isnan(row["standard_error"]) else f" ± {row['standard_error']:.{places}f}"
    note = "" if np.isnan(row["low"]) else f"95 % interval {row['low']:.{places}f} to {row['high']:.{places}f}"
    return Cell(f"{row['mean']:.{places}f}{error}", 1 if row["best"] else 2 if row["second"] else 0, note)


def _caption(results: Results, spec: ScoreTable, frame: pd.DataFrame) -> str:
    own = results.scores[results.scores["task"] == spec.task]
    own = own[own["variant"].isin(VARIANTS)]
    units = ", ".join(f"{m.label} in {m.unit} ({m.better} is better)" for m in spec.metrics)
    classes = sorted(own["class"].unique())
    over = f", each subject's mean over {', '.join(classes)}" if len(classes) > 1 else ""
    apart = "" if set(own["cohort"]) == {"real"} else ", not comparable with the real subjects of the paper"
    parts = [
        f"{units}{over}: mean ± standard error over test subjects ({_subject_counts(frame)}), {_seed_counts(frame)}.",
        f"{cohort_words(own).capitalize()}{apart}.",
        "Best bold, second best underlined, of each row and group of columns, by unrounded means; ties share.",
        "95 % bootstrap intervals over subjects are in the CSV file.",
    ]
    if not frame["site"].map(is_training_site).all():
        parts.append("GST (Guy's) is the site that training images come from.")
    if frame["paper_mean"].notna().any():
        parts.append("Beneath, the paper's own numbers, marked likewise among what is shown of it.")
    return " ".join(parts) + _missing_classes(own) + unfinished_words(results, spec.task)


def _subject_counts(frame: pd.DataFrame) -> str:
    """Return how many test subjects each site has; of each modality where these differ."""
    parts = []
    for site, part in frame.groupby("site", sort=False):
        if part["n"].nunique() == 1:
            parts.append(f"{site_name(site)} {part['n'].iloc[0]}")
            continue
        for modality, own in part.groupby("modality", sort=False):
            counts = sorted({own["n"].min(), own["n"].max()})
            parts.append(f"{place_name(site, modality)} {' to '.join(map(str, counts))}")
    return ", ".join(parts)


def _seed_counts(frame: pd.DataFrame) -> str:
    counts = sorted({int(frame["n_seeds"].min()), int(frame["n_seeds"].max())})
    if counts == [1]:
        return "one seed"
    words = f"{' to '.join(map(str, counts))} seeds, averaged within a subject"
    return f"{words} (spread in the CSV file: the standard deviation of their means)"


def _missing_classes(own: pd.DataFrame) -> str:
    """Return a sentence on predictions that lack a class, empty where there are none."""
    empty = own[own["metric"] == "empty_prediction"]
    if not empty["value"].any():
        return ""
    by_variant = empty.groupby("variant")["value"]
    counts = [
        f"{variant_label(name)} {int(by_variant.get_group(name).sum())} of {by_variant.get_group(name).size}"
        for name in variant_order(empty["variant"].unique())
    ]
    return (
        " A class that is missing from a prediction counts as DSC 0 and as HD95 the diagonal of the image; "
        f"missing were, over subjects, classes and runs: {', '.join(counts)}."
    )
