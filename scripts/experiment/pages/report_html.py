"""The report's page: what was run, tables, figures, the viewer and the list of runs, in one file without network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from scripts.experiment.figures.all_figures import Figure
from scripts.experiment.pages.viewer import niivue_source, viewer_content
from scripts.experiment.results.collect import Results
from scripts.experiment.tables.text import Table, render_html
from scripts.io.files import atomic_write
from scripts.io.templates import fill_template
from scripts.tasks import task_title
from scripts.variants import variant_label

__all__ = ["write_html"]

_MOST_BYTES = 14_000_000
"""Of the page but its text; only the figures and the median cases may make it larger."""

_BESIDE = Path(__file__).parent
_COHORTS = {
    "embedded": "embedded cohorts: simulated, not measured",
    "real": "real data",
}


def write_html(
    results: Results,
    tables: Sequence[Table],
    figures: Sequence[Figure],
    out: Path,
    *,
    notes: Sequence[str] = (),
) -> Path:
    """Write ``report.html``, which opens from disk without a network, and return its path.

    Args:
        results: the grid's results; of their paths none is written.
        tables: in the order of the page.
        figures: in the order of the page.
        out: folder of the page.
        notes: sentences on what the numbers can and cannot show.

    Raises:
        InputError: the package nilearn has no viewer.
    """
    niivue = niivue_source()
    pictures = [(figure, _data_url(figure.path)) for figure in figures]
    content = viewer_content(results, budget=_MOST_BYTES - len(niivue) - sum(len(source) for _, source in pictures))
    text = fill_template(
        _BESIDE / "report.html.jinja",
        title=f"Grid {results.grid}",
        badges=_badges(results),
        about=_about(results),
        notes=notes,
        tables=[(table, Markup(render_html(table))) for table in tables],
        figures=pictures,
        runs=_runs(results),
        viewer=content,
        niivue=Markup(niivue) if content["cases"] else "",
        nilearn=version("nilearn"),
        css=Markup((_BESIDE / "report.css").read_text(encoding="utf-8")),
        script=Markup((_BESIDE / "report.js").read_text(encoding="utf-8")),
    )
    return atomic_write(Path(out) / "report.html", partial(Path.write_text, data=text, encoding="utf-8"))


def _badges(results: Results) -> list[tuple[str, bool]]:
    """Return words on the cohorts, and whether each is a caution."""
    cohorts = sorted(results.runs["cohort"].unique()) if len(results.runs) else []
    return [(_COHORTS.get(cohort, f"cohort: {cohort}"), cohort != "real") for cohort in cohorts]


def _about(results: Results) -> list[tuple[str, str]]:
    """Return what was run, as pairs of a name and words; the facts' folders are left out."""
    runs, planned = results.runs, len(results.planned)
    about: list[tuple[str, str]] = [("runs", f"{len(runs)} of {max(planned, len(runs))} planned are finished")]
    if len(runs):
        seeds = ", ".join(str(seed) for seed in sorted(runs["seed"].unique()))
        about.append(("seeds", seeds))
        about.append(("trained", f"{runs['minutes'].sum() / 60:.1f} h in all"))
        first, last = (f"{moment:%Y-%m-%d}" for moment in (runs["started"].min(), runs["started"].max()))
        about.append(("date", first if first == last else f"{first} to {last}"))
        about.append(("commit", ", ".join(sorted(runs["commit"].unique()))))
    words = {"hardware": "hardware", "processes": "runs side by side", "preset": "preset", "description": "grid"}
    return about + [(word, str(value)) for name, word in words.items() if (value := results.facts.get(name))]


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
    return {
        "task": task_title(str(row["task"])),
        "variant": variant_label(row["variant"]),
        "modality": row["modality"],
        "fraction": f"{float(row['fraction']):.0%}",
        "seed": row["seed"],
    }
