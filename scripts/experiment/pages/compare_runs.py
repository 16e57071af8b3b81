"""The grid's runs side by side in MLflow: its server on this machine, and the addresses of its comparison pages."""

from __future__ import annotations

import json
import signal
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts.errors import InputError
from scripts.experiment.pages.mlflow_server import is_server, mlflow_server
from scripts.experiment.pages.screenshot import find_browser, screenshot
from scripts.experiment.results.grid_runs import find_grid, latest_runs, read_plan
from scripts.variants import variant_order

__all__ = ["GridRuns", "comparison_url", "find_runs", "picture_comparison", "serve", "table_url"]

_PICTURE = (1300, 1000)  # pixels
_ASSISTANT = 450  # pixels of a panel that MLflow opens at the right and that says nothing on runs
_tell = partial(print, flush=True)  # whoever reads a pipe shall see the address while the server runs


@dataclass(frozen=True)
class GridRuns:
    """The evaluated runs of a grid.

    Attributes:
        experiment: MLflow's id of the experiment they lie in.
        parent: id of the run that they lie beneath.
        of_task: task -> ids of its runs, by modality, label fraction, variant and seed.
        tags: that all of them have, by which they were chosen.
    """

    experiment: str
    parent: str
    of_task: Mapping[str, Sequence[str]]
    tags: Mapping[str, str]

    def all(self) -> list[str]:
        """Return the ids of all runs, task after task."""
        return [run for runs in self.of_task.values() for run in runs]


def find_runs(uri: str, grid: str, tags: Mapping[str, str] | None = None) -> GridRuns:
    """Return the evaluated runs of a grid as last started, of each cell the last one.

    Args:
        uri: MLflow store.
        grid: name of the grid.
        tags: only runs with these, such as ``{"task": "ixi_seg", "modality": "T1w"}``.

    Raises:
        InputError: the store has no such grid, or none of its runs is finished.
    """
    client, parent = find_grid(uri, grid)
    planned = {cell["cell"] for cell in read_plan(client, parent)["cells"]}
    wanted = set((tags or {}).items())
    evaluated = latest_runs(client, parent, planned)
    latest = {cell: run for cell, run in evaluated.items() if wanted <= set(run.data.tags.items())}
    if not latest:
        of = "".join(f", {name} {value}," for name, value in (tags or {}).items()).replace(",,", ",")
        raise InputError(f"no run of the grid {grid!r}{of} is finished: type its `experiment run` command again")
    variants = variant_order({run.data.tags.get("variant", "") for run in latest.values()})
    of_task: dict[str, list[str]] = {}
    for run in sorted(latest.values(), key=lambda run: _place(run.data.tags, variants)):
        of_task.setdefault(run.data.tags.get("task", "other"), []).append(str(run.info.run_id))
    return GridRuns(str(parent.info.experiment_id), str(parent.info.run_id), of_task, tags or {})


def comparison_url(server: str, experiment: str, runs: Sequence[str]) -> str:
    """Return the address of the page on which MLflow compares runs.

    Args:
        server: such as ``http://127.0.0.1:5000``.
        experiment: id of the experiment they lie in.
        runs: their ids. They stand behind the #, which no server sees, so that their number has no limit there.
    """
    words = {"runs": json.dumps(list(runs)), "experiments": json.dumps([experiment])}
    return f"{server}/#/compare-runs?" + _query(words)


def table_url(
    server: str, experiment: str, parent: str, *, tags: Mapping[str, str] | None = None, charts: bool = False
) -> str:
    """Return the address of MLflow's table of the runs beneath a parent run, sorted by name.

    Args:
        server: such as ``http://127.0.0.1:5000``.
        experiment: id of the experiment they lie in.
        parent: id of the run they lie beneath.
        tags: only runs with these, such as ``{"task": "ixi_seg", "modality": "T1w"}``.
        charts: a chart for each metric beside the table.
    """
    wanted = {"mlflow.parentRunId": parent, **(tags or {})}
    chosen = " AND ".join(f"tags.{name} = '{value}'" for name, value in wanted.items())
    # in its default order MLflow folds nested runs into their parent, and shows one line
    order = {"orderByKey": "tags.`mlflow.runName`", "orderByAsc": "true"}
    words = {"searchFilter": chosen, **order, **({"compareRunsMode": "CHART"} if charts else {})}
    return f"{server}/#/experiments/{experiment}/runs?" + _query(words)


def serve(
    uri: str,
    grid: str,
    *,
    tags: Mapping[str, str] | None = None,
    port: int | None = None,
    open_browser: bool = False,
    tell: Callable[[str], object] = _tell,
) -> None:
    """Serve a store on this machine until Ctrl-C, and tell the addresses where the grid's runs are compared.

    Args:
        uri: MLflow store; one that is a server already is not served again.
        grid: name of the grid.
        tags: only runs with these.
        port: of the server; None takes a free one.
        open_browser: open the comparison of all runs.
        tell: takes lines for the user.

    Raises:
        InputError: no such grid, none of its runs finished, or the server does not start.
    """
    found = find_runs(uri, grid, tags)
    if not is_server(uri):
        tell("Starting MLflow ...")
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("MLflow is stopped."))
    with mlflow_server(uri, port=port) as (server, process):
        _announce(server, found, open_browser, tell)
        if process is None:
            return
        tell("Ctrl-C ends the server.")
        try:
            process.wait()
        except KeyboardInterrupt:
            tell("MLflow is stopped.")


def picture_comparison(
    uri: str, grid: str, png: str | Path, *, tags: Mapping[str, str] | None = None, port: int | None = None
) -> Path:
    """Return the path of a picture of MLflow's charts of a grid's runs.

    Args:
        uri: MLflow store.
        grid: name of the grid.
        png: where the picture goes.
        tags: only runs with these.
        port: of the server; None takes a free one.

    Raises:
        InputError: no such grid, none of its runs finished, no browser, or the server does not start.
    """
    find_browser()
    found = find_runs(uri, grid, tags)
    with mlflow_server(uri, port=port) as (server, _):
        url = table_url(server, found.experiment, found.parent, tags=found.tags, charts=True)
        return screenshot(url, png, size=_PICTURE, cut=_ASSISTANT)


def _announce(server: str, found: GridRuns, open_browser: bool, tell: Callable[[str], object]) -> None:
    every = comparison_url(server, found.experiment, found.all())
    tell(f"All {len(found.all())} runs side by side:\n  {every}")
    for task, runs in found.of_task.items():
        side = comparison_url(server, found.experiment, runs)
        charts = table_url(server, found.experiment, found.parent, tags={**found.tags, "task": task}, charts=True)
        tell(f"{task}, {len(runs)} runs, side by side and as charts:\n  {side}\n  {charts}")
    tell(f"As a table:\n  {table_url(server, found.experiment, found.parent, tags=found.tags)}")
    if open_browser:
        webbrowser.open(every)


def _query(words: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(text, safe='')}" for name, text in words.items())


def _place(tags: Mapping[str, str], variants: Sequence[str]) -> tuple[Any, ...]:
    is_task = tags.get("task") != "pretrain"
    fraction, variant = float(tags.get("fraction", 1)), variants.index(tags.get("variant", ""))
    return is_task, tags.get("task", ""), tags.get("modality", ""), fraction, variant, tags.get("seed", "")
