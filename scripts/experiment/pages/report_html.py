"""The report's page: what was run, tables, figures, the viewer and the list of runs, in one file without network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.experiment.pages.viewer import TITLES, niivue_source, viewer_content
from scripts.experiment.results.collect import Results
from scripts.io.files import atomic_write
from scripts.variants import variant_label

__all__ = ["FigureFile", "TableText", "write_html"]

_MOST_BYTES = 14_000_000
"""Of the page but its text; only the figures and the median cases may make it larger."""

_BESIDE = Path(__file__).parent
_COHORTS = {
    "embedded": "embedded cohorts: simulated, not measured",
    "real": "real data",
}


class TableText(Protocol):
    """A table with a name that serves as anchor, a title and a caption."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def caption(self) -> str: ...  # noqa: D102


class FigureFile(TableText, Protocol):
    """A figure: the same, and its PNG."""

    @property
    def path(self) -> Path: ...  # noqa: D102


def write_html(
    results: Results,
    tables: Sequence[TableText],
    figures: Sequence[FigureFile],
    out: Path,
    *,
    notes: Sequence[str] = (),
    render: Callable[[Any], str] | None = None,
) -> Path:
    """Write ``report.html``, which opens from disk without a network, and return its path.

    Args:
        results: the grid's results; of their paths none is written.
        tables: in the order of the page.
        figures: in the order of the page.
        out: folder of the page.
        notes: sentences on what the numbers can and cannot show.
        render: a table's HTML, trusted; None takes that of `scripts.experiment.tables.all_tables`.

    Raises:
        InputError: the package nilearn has no viewer.
    """
    if render is None:
        from scripts.experiment.tables.text import render_html

        render = cast("Callable[[Any], str]", render_html)
    niivue = niivue_source()
    pictures = [(figure, _data_url(figure.path)) for figure in figures]
    content = viewer_content(results, budget=_MOST_BYTES - len(niivue) - sum(len(source) for _, source in pictures))
    loader = FileSystemLoader(_BESIDE)
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html.jinja")
    text = template.render(
        title=f"Grid {results.grid}",
        badges=_badges(results),
        about=_about(results),
        notes=notes,
        tables=[(table, Markup(render(table))) for table in tables],
        figures=pictures,
        runs=_runs(results),
        viewer=content,
        niivue=Markup(niivue) if content["cases"] else "",
        nilearn=version("nilearn"),
        css=Markup((_BESIDE / "report.css").read_text(encoding="utf-8")),
        script=Markup((_BESIDE / "report.js").read_text(encoding="utf-8")),
    )
    return atomic_write(Path(out) / "report.html", lambda part: part.write_text(text, encoding="utf-8"))


def _badges(results: Results) -> list[tuple[str, bool]]:
    """Return words on the cohorts, and whether each is a caution."""
    cohorts = sorted(results.runs["cohort"].unique()) if len(results.runs) else []
    return [(_COHORTS.get(cohort, f"cohort: {cohort}"), cohort != "real") for cohort in cohorts]


def _about(results: Results) -> list[tuple[str, str]]:
    """Return what was run, as pairs of a name and words; the facts' folders are left out."""
    runs, planned = results.runs, len(results.planned)
    told: list[tuple[str, str]] = [("runs", f"{len(runs)} of {max(planned, len(runs))} planned are finished")]
    if len(runs):
        seeds = ", ".join(str(seed) for seed in sorted(runs["seed"].unique()))
        told.append(("seeds", seeds))
        told.append(("trained", f"{runs['minutes'].sum() / 60:.1f} h in all"))
        first, last = (f"{moment:%Y-%m-%d}" for moment in (runs["started"].min(), runs["started"].max()))
        told.append(("date", first if first == last else f"{first} to {last}"))
        told.append(("commit", ", ".join(sorted(runs["commit"].unique()))))
    words = {"hardware": "hardware", "processes": "runs side by side", "preset": "preset", "description": "grid"}
    return told + [(word, str(value)) for name, word in words.items() if (value := results.facts.get(name))]


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode("ascii")


def _runs(results: Results) -> list[dict[str, Any]]:
    """Return a row per planned or finished cell; what is not finished has no run id."""
    rows = []
    for run in results.runs.to_dict("records"):
        minutes = "" if pd.isna(run["minutes"]) else f"{run['minutes']:.1f}"
        rows.append({**_cell(run), "minutes": minutes, "run_id": run["run_id"]})
    done = set(results.runs["cell"]) if len(results.runs) else set()
    for cell in results.planned.to_dict("records"):
        if cell["cell"] not in done:
            rows.append({**_cell(cell), "minutes": "", "run_id": ""})
    return rows


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    task = str(row["task"])
    told = {"task": TITLES.get(task, task), "variant": variant_label(row["variant"])}
    return {**told, "modality": row["modality"], "fraction": f"{float(row['fraction']):.0%}", "seed": row["seed"]}
