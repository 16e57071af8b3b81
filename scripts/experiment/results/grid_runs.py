"""The runs of a grid in its MLflow store: those planned, and of each cell the last one evaluated."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.handlers.mlflow_store import CELL_TAG, find_parent, open_store

__all__ = ["find_grid", "latest_runs", "read_plan"]


def find_grid(uri: str, grid: str) -> tuple[Any, Any]:
    """Return the client of a store and the run that a grid's runs lie beneath.

    Args:
        uri: MLflow store.
        grid: name of the grid.

    Raises:
        InputError: the store has no such grid.
    """
    client = open_store(uri)
    parent = find_parent(client, grid)
    if parent is None:
        raise InputError(f"{uri} holds no grid {grid!r}: start it with `python -m scripts experiment run`")
    return client, parent


def read_plan(client: Any, parent: Any) -> dict[str, Any]:
    """Return what a grid was last started as; cells of an earlier preset of its name may lie beneath it too."""
    path = Path(client.download_artifacts(parent.info.run_id, "grid.json"))
    plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return plan


def latest_runs(client: Any, parent: Any, cells: Collection[str]) -> dict[str, Any]:
    """Return the last evaluated and finished run of each of some cells, in the order of their beginning."""
    found: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs(
            [parent.info.experiment_id],
            f"tags.mlflow.parentRunId = '{parent.info.run_id}' AND tags.evaluated = 'yes'",
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        for run in page:
            cell = run.data.tags.get(CELL_TAG, "")
            if cell in cells and run.info.status == "FINISHED":
                found[cell] = run
        token = page.token
        if not token:
            return found
