"""All tables of a grid, and their files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from scripts.experiment.results.collect import Results
from scripts.experiment.tables.across import across_differences, across_table
from scripts.experiment.tables.comparisons import comparison_table, overall_table
from scripts.experiment.tables.paper_tables import task_tables
from scripts.experiment.tables.score_tables import SCORE_TABLES
from scripts.experiment.tables.study import study_differences, study_table
from scripts.experiment.tables.text import Table, render_csv, render_latex, render_markdown
from scripts.io.files import atomic_write

__all__ = ["all_tables", "write_tables"]

logger = logging.getLogger(__name__)

_FORMATS: dict[str, Callable[[Table], str]] = {".md": render_markdown, ".tex": render_latex, ".csv": render_csv}
_NAMES = (
    "across",
    "across_differences",
    *(spec.name for spec in SCORE_TABLES),
    "comparisons_overall",
    "comparisons",
    "study",
    "study_differences",
)
_PAGE = 60
"""Rows that a LaTeX table, which cannot break, has at most."""


def all_tables(results: Results) -> list[Table]:
    """Return all tables that the finished runs give, in reading order: none of them is empty."""
    tables = [across_table(results), across_differences(results)]
    tables += [*task_tables(results), overall_table(results), comparison_table(results)]
    tables += [study_table(results), study_differences(results)]
    return [table for table in tables if not table.frame.empty]


def write_tables(tables: Sequence[Table], out: str | Path) -> list[Path]:
    """Write each table as Markdown and LaTeX, and its unrounded numbers as CSV; return the paths.

    A table that no finished run gives is left out, with a line in the log, and so is the LaTeX of one that is longer
    than a page.

    Args:
        tables: the result of `all_tables`.
        out: the folder.
    """
    for name in _NAMES:
        if name not in {table.name for table in tables}:
            logger.warning("%s is left out: no finished run gives it", name)
    paths = []
    for table in tables:
        for ending, render in _FORMATS.items():
            if ending == ".tex" and len(table.rows) > _PAGE:
                continue
            text = render(table)
            if ending == ".md":
                text = f"# {table.title}\n\n{text}\n\n{table.caption}\n"
            paths.append(atomic_write(Path(out) / f"{table.name}{ending}", partial(_write, text)))
    return paths


def _write(text: str, part: Path) -> None:
    part.write_text(text, encoding="utf-8")
