"""All tables of a grid, and their files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.experiment.results import Results
from scripts.experiment.study import study_differences, study_table
from scripts.experiment.table_text import Table, render_csv, render_html, render_latex, render_markdown
from scripts.experiment.task_tables import comparison_table, task_tables
from scripts.files import atomic_write

__all__ = [
    "Table",
    "all_tables",
    "comparison_table",
    "render_csv",
    "render_html",
    "render_latex",
    "render_markdown",
    "study_differences",
    "study_table",
    "task_tables",
    "write_tables",
]

_FORMATS: dict[str, Callable[[Table], str]] = {".md": render_markdown, ".tex": render_latex, ".csv": render_csv}


def all_tables(results: Results) -> list[Table]:
    """Return all tables that the finished runs give, in reading order."""
    tables = [*task_tables(results), study_table(results), study_differences(results), comparison_table(results)]
    return [table for table in tables if not table.frame.empty]


def write_tables(results: Results, out: str | Path) -> list[Path]:
    """Write each table as Markdown and LaTeX, and its unrounded numbers as CSV; return the paths.

    Args:
        results: of the grid.
        out: the folder.
    """
    paths = []
    for table in all_tables(results):
        for ending, render in _FORMATS.items():
            text = render(table)
            if ending == ".md":
                text = f"{text}\n\n*{table.title}. {table.caption}*\n"
            paths.append(atomic_write(Path(out) / f"{table.name}{ending}", partial(_write, text)))
    return paths


def _write(text: str, part: Path) -> None:
    part.write_text(text, encoding="utf-8")
