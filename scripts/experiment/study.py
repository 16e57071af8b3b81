"""What of SeqInv helps: variants of the pretraining side by side, on what all of them were tested on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.figures.palette import variant_label
from scripts.experiment.figures.values import NothingToDrawError, subject_values, told_cohort
from scripts.experiment.results import VARIANTS, Results, variant_order
from scripts.experiment.statistics import cell_statistics, compare_variants
from scripts.experiment.table_text import Cell, Row, Table

__all__ = ["study_differences", "study_table"]

_MEASURES = (
    ("pooled", "retrieval_top1", "retrieval across sequences (pooled)"),
    ("dense", "retrieval_top1", "retrieval across sequences (dense)"),
    ("dense", "tissue_r2_across_sequences", "tissue R2 across sequences (dense)"),
)
_SCORES = (("ixi_seg", "DSC", 100.0, "%"), ("ixi_denoise", "PSNR", 1.0, "dB"), ("arc_lesion", "DSC", 100.0, "%"))
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
    frame = pd.DataFrame([row for part in (_invariance(results), _downstream(results, studied)) for row in part])
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
            "Pretrainings of equal length and cost per step, the same test subjects for all: value and 95 % bootstrap "
            f"interval over subjects; {told_cohort(results.runs)}, {_seeds(results)}. The intervals leave out how much "
            "a second training would differ."
        ),
        frame=frame,
        columns=("variant", *measures),
        rows=tuple(rows),
    )


def study_differences(results: Results) -> Table:
    """Return paired differences between variants in the scores that they share: the study's answers.

    The frame has a row per question and score: ``question``, ``measure``, and the columns of `compare_variants`.
    """
    studied = [name for name in _pretrained(results) if name not in VARIANTS]
    questions = [*_QUESTIONS, *((name, "seqinv", f"{variant_label(name)} less SeqInv") for name in studied)]
    rows: list[dict[str, Any]] = []
    for measure, values in _shared(results, studied):
        for first, second, question in questions:
            found = compare_variants(values, first, [second], better="higher")
            rows += [{"question": question, "measure": measure, **row} for row in found.to_dict("records")]
    frame = pd.DataFrame(rows)
    measures = list(dict.fromkeys(frame["measure"])) if len(frame) else []
    cells = {(row["question"], row["measure"]): row for row in rows}
    shown = [question for _, _, question in questions if any((question, m) in cells for m in measures)]
    return Table(
        name="study_differences",
        title="Study: differences",
        caption=(
            "Mean difference over the same test subjects of all sites with its 95 % bootstrap interval. What stands "
            "clear of 0 is a difference between these two trainings; whether it is one between the recipes takes more "
            "seeds."
        ),
        frame=frame,
        columns=("what is added or changed", *measures),
        rows=tuple(Row(q, tuple(_difference(cells.get((q, m))) for m in measures)) for q in shown),
    )


def _pretrained(results: Results) -> list[str]:
    found = results.invariance
    return variant_order(found["variant"].unique()) if len(found) else []


def _invariance(results: Results) -> Iterator[dict[str, Any]]:
    for level, metric, name in _MEASURES:
        rows = results.invariance
        rows = rows[(rows["level"] == level) & (rows["metric"] == metric)]
        for variant, part in rows.groupby("variant"):
            means = part[["value", "low", "high"]].mean()
            yield {"variant": variant, "measure": name, **means.to_dict(), "n": int(part["n"].max())}


def _shared(results: Results, studied: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield each score that the study's variants were tested on, its subjects of all sites together."""
    for task, metric, scale, unit in _SCORES:
        try:
            values = subject_values(results.scores, task, metric, scale=scale)
        except NothingToDrawError:
            continue
        tested = values[values["variant"].isin(studied)]
        for (modality, fraction), _ in tested.groupby(["modality", "fraction"], sort=False):
            part = values[(values["modality"] == modality) & (values["fraction"] == fraction)]
            yield f"{metric} {modality} {fraction:.0%} ({unit})", part.assign(site="all")


def _downstream(results: Results, studied: list[str]) -> Iterator[dict[str, Any]]:
    for measure, values in _shared(results, studied):
        for row in cell_statistics(values).to_dict("records"):
            told = {"value": row["mean"], "low": row["low"], "high": row["high"], "n": row["n"]}
            yield {"variant": row["variant"], "measure": measure, **told}


def _cell(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell()
    digits = 3 if abs(row["high"]) <= 2 else 1
    return Cell(f"{row['value']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]")


def _difference(row: dict[str, Any] | None) -> Cell:
    if row is None:
        return Cell()
    clear = np.sign(row["low"]) == np.sign(row["high"]) and row["low"] != 0
    return Cell(f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]", 1 if clear else 0)


def _seeds(results: Results) -> str:
    count = results.runs["seed"].nunique()
    return "one seed" if count == 1 else f"{count} seeds"
