"""Everything that a grid found, as tables, figures, one page to open and one to commit."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.experiment.results.collect import collect
from scripts.handlers.mlflow_store import open_store

__all__ = ["find_grid", "write_report"]

logger = logging.getLogger(__name__)


def find_grid(out: str | Path, grid: str | None = None, uri: str | None = None) -> tuple[str, str]:
    """Return the MLflow store of a grid and its name.

    Args:
        out: folder of the grid, where its store lies unless ``uri`` or ``MLFLOW_TRACKING_URI`` says otherwise.
        grid: its name; None takes the only one in the store.
        uri: MLflow store.

    Raises:
        InputError: no store, no grid in it, or several and none named.
    """
    store = Path(out) / "mlruns.db"
    if uri is None and "MLFLOW_TRACKING_URI" not in os.environ and not store.is_file():
        raise InputError(f"{store} is missing: run the grid first (python -m scripts experiment run --out {out})")
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.resolve()}"
    names = _grids(open_store(uri))
    if grid is None and len(names) != 1:
        listed = ", ".join(names) if names else "none"
        raise InputError(f"{uri} holds {len(names)} grids ({listed}): name one by --grid")
    return uri, grid or names[0]


def write_report(
    out: str | Path,
    *,
    grid: str | None = None,
    uri: str | None = None,
    page: str | None = None,
    bundles: str | None = None,
) -> str:
    """Write tables, figures and ``report.html`` into ``report`` beneath a folder; return where they lie, in words.

    Args:
        out: the folder.
        grid: see `find_grid`.
        uri: see `find_grid`.
        page: Markdown page to write besides.
        bundles: folder of the bundles whose pages get their part of the results.
    """
    from scripts.experiment.figures.all_figures import write_figures
    from scripts.experiment.pages.bundle_pages import fill_bundle_pages
    from scripts.experiment.pages.limits import limits
    from scripts.experiment.pages.report_html import write_html
    from scripts.experiment.pages.results_page import write_results_page
    from scripts.experiment.tables.all_tables import all_tables, write_tables

    uri, name = find_grid(out, grid, uri)
    results = collect(name, uri)
    folder = Path(out) / "report"
    tables = all_tables(results)
    written = write_tables(tables, folder / "tables")
    figures = write_figures(results, folder / "figures")
    notes = [f"{head}: {text}" for head, text in limits(results)]
    html = write_html(results, tables, figures, folder, notes=notes)
    lines = [
        f"Report on {len(results.runs)} of {len(results.planned)} runs of the grid {name}:",
        f"  page     {html}",
        f"  tables   {folder / 'tables'} ({len(written)} files: Markdown, LaTeX, CSV)",
        f"  figures  {folder / 'figures'} ({len(figures)} pictures)",
    ]
    if page:
        lines.append(f"  results  {write_results_page(results, tables, figures, Path(page))}")
    if bundles:
        filled = fill_bundle_pages(results, tables, Path(bundles))
        lines += [f"  bundle   {path}" for path in filled]
    return "\n".join(lines)


def _grids(client: Any) -> list[str]:
    experiments = [found.experiment_id for found in client.search_experiments()]
    found = client.search_runs(experiments, "tags.grid_parent != ''")
    return sorted({run.data.tags["grid_parent"] for run in found})
