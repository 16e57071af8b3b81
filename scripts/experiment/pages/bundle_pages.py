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
from scripts.experiment.tables.text import EMPTY, Table, markdown_table
from scripts.io.files import atomic_write
from scripts.io.templates import fill_template
from scripts.tasks import PRETRAIN_BUNDLE
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
    parts = {PRETRAIN_BUNDLE: [invariance_markdown(results)]}
    for table in SCORE_TABLES:
        if table.name in frames:
            parts.setdefault(table.task, []).extend(_score_tables(table, frames[table.name]))
    about = {
        "grid": results.grid,
        "day": max(results.runs["started"]).date(),
        "commits": sorted({str(commit)[:10] for commit in results.runs["commit"]}),
        "cohorts": sorted(results.runs["cohort"].unique()),
    }
    template = Path(__file__).with_name("bundle_pages.md.jinja")
    filled = {}
    for name, found in parts.items():
        if any(found):
            page = bundles / name / "docs" / "README.md"
            filled[page] = _filled(page, fill_template(template, **about, parts=found).strip())
    for page, text in filled.items():
        atomic_write(page, partial(Path.write_text, data=text, encoding="utf-8"))
    return list(filled)


def _filled(page: Path, text: str) -> str:
    filled = replace_marked(page.read_text(encoding="utf-8") if page.is_file() else "", BEGIN, END, text)
    if filled is None:
        raise InputError(f"{page} lacks the lines '{BEGIN}' and '{END}': put them where the results shall stand")
    return filled


def _score_tables(table: ScoreTable, frame: pd.DataFrame) -> list[str]:
    """Return a table per metric, of the most labels: a row per site and modality, a column per variant."""
    fraction = frame["fraction"].max()
    shown = frame[(frame["fraction"] == fraction) & frame["variant"].isin(VARIANTS)]
    variants = variant_order(shown["variant"].unique())
    tables = []
    for metric in table.metrics:
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
        tables.append(markdown_table(head, rows))
    return tables
