"""The results in each bundle's own page: its part of the tables, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from scripts.errors import InputError
from scripts.experiment.pages.marked_part import replace_marked
from scripts.experiment.results.collect import Results
from scripts.experiment.results.wording import fraction_words, place_name
from scripts.experiment.tables.invariance_measures import invariance_markdown
from scripts.experiment.tables.score_tables import SCORE_TABLES, ScoreTable
from scripts.experiment.tables.text import EMPTY, Table, plain_markdown
from scripts.io.files import atomic_write
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["BEGIN", "END", "fill_bundle_pages"]

BEGIN = "<!-- results: begin; written by python -m scripts experiment report -->"
END = "<!-- results: end -->"


def fill_bundle_pages(results: Results, tables: Sequence[Table], bundles: Path) -> list[Path]:
    """Write each bundle's results into its ``docs/README.md``, between `BEGIN` and `END`; return the pages.

    Args:
        results: of the grid.
        tables: the result of `scripts.experiment.tables.all_tables.all_tables`.
        bundles: folder of the bundles.

    Raises:
        InputError: a page without the two marks.
    """
    frames = {table.name: table.frame for table in tables}
    texts = {"pretrain_seqinv": invariance_markdown(results)}
    for layout in SCORE_TABLES:
        if layout.name in frames:
            own = _told_scores(layout, frames[layout.name])
            texts[layout.task] = "\n\n".join(filter(None, [texts.get(layout.task, ""), own]))
    pages = {bundles / name / "docs" / "README.md": text for name, text in texts.items() if text}
    filled = {page: _filled(page, f"{_told_grid(results)}\n\n{text}") for page, text in pages.items()}
    for page, text in filled.items():
        atomic_write(page, partial(_write, text))
    return list(filled)


def _filled(page: Path, text: str) -> str:
    filled = replace_marked(page.read_text(encoding="utf-8") if page.is_file() else "", BEGIN, END, text)
    if filled is None:
        raise InputError(f"{page} lacks the lines '{BEGIN}' and '{END}': put them where the results shall stand")
    return filled


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _told_grid(results: Results) -> str:
    day = max(results.runs["started"]).date()
    commits = ", ".join(sorted({str(commit)[:10] for commit in results.runs["commit"]}))
    cohorts = " and ".join(sorted(results.runs["cohort"].unique()))
    short = "" if cohorts == "real" else ", simulated images: they say nothing about patients"
    return (
        f"Grid `{results.grid}` ({day}, commit {commits}) on **{cohorts}** data{short}. A network of your own may do "
        "better or worse: these had the size and the length of that grid. Random is an untrained encoder, frozen as "
        "the others are. More in `docs/RESULTS.md` of the project."
    )


def _told_scores(layout: ScoreTable, frame: pd.DataFrame) -> str:
    """Return the table of the most labels: a row per site and modality, a column per variant."""
    fraction = frame["fraction"].max()
    shown = frame[(frame["fraction"] == fraction) & frame["variant"].isin(VARIANTS)]
    variants = variant_order(shown["variant"].unique())
    parts = []
    for metric in layout.metrics:
        own = shown[shown["metric"] == metric.name]
        rows = []
        for (site, modality), part in own.groupby(["site", "modality"], sort=False):
            found = part.set_index("variant")
            cells = [
                f"{found['mean'][name]:.{metric.digits}f} ± {found['standard_error'][name]:.{metric.digits}f}"
                if name in found.index
                else EMPTY
                for name in variants
            ]
            rows.append([f"{place_name(site, modality)}, n = {part['n'].max()}", *cells])
        head = [f"{metric.label} [{metric.unit}], {fraction_words(fraction)}", *map(variant_label, variants)]
        parts.append(plain_markdown(head, rows))
    return "\n\n".join(parts)
