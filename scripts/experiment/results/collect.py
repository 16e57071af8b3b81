"""What a grid of runs found: collected from MLflow and the tables that the evaluations left there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from scripts.errors import InputError
from scripts.experiment.results.grid_runs import find_grid, latest_runs, read_plan
from scripts.handlers.mlflow_store import CELL_TAG

__all__ = ["FEATURES", "KEYS", "Results", "collect"]

logger = logging.getLogger(__name__)

KEYS = ("task", "variant", "modality", "fraction", "seed", "cohort")
"""Columns that say which run a row belongs to; `seed` is int, `fraction` float, the others str."""

FEATURES = "f"
"""First letter of the columns of an encoder's pooled features: f0, f1 ..."""

_TABLES = ("metrics.csv", "invariance.csv", "cases.csv", "features.csv", "across.csv")


@dataclass(frozen=True)
class Results:
    """The finished runs of a grid. All tables are empty, with no columns promised, where nothing was found.

    Attributes:
        grid: its name.
        uri: MLflow store.
        runs: a row per run: `KEYS`, ``cell``, ``run_id``, ``started`` and ``ended`` (UTC timestamps),
            ``minutes`` (of training), ``patch_size`` (voxels, 0: unknown), ``commit``.
        scores: `KEYS`, then ``subject``, ``site``, ``class``, ``metric``, ``value``: every score of every subject.
        invariance: `KEYS` (task pretrain), ``level``, ``metric``, ``value``, ``low``, ``high``, ``n``, ``chance``,
            ``better`` (higher or lower), one row per encoder, level and metric; ``random`` is the untrained encoder.
        cases: `KEYS`, ``rank`` (best, median, worst), ``subject``, ``site``, ``metric``, ``value``, and the paths
            ``image``, ``truth``, ``prediction`` (NIfTI, one grid; labels, or the denoised and the clean image).
        features: `KEYS`, ``subject``, ``site``, f0 .. f<C-1>: pooled encoder features of test images.
        across: the columns of ``scores`` and ``tested``: scores on that modality of networks that were trained on
            ``modality``, which is one of those tested on.
        planned: all cells of the grid as last started, with or without a finished run: a row each of `KEYS` (but
            cohort) and ``cell``.
        facts: what the grid's parent run knows: preset, commit, hardware, data folders and such.
    """

    grid: str
    uri: str
    runs: pd.DataFrame
    scores: pd.DataFrame
    invariance: pd.DataFrame
    cases: pd.DataFrame
    features: pd.DataFrame
    planned: pd.DataFrame
    across: pd.DataFrame = field(default_factory=pd.DataFrame)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def recipes(self) -> dict[str, str]:
        """Recipes of the grid -> what they do, in words."""
        return dict(self.facts.get("recipes", {}))


def collect(grid: str, uri: str) -> Results:
    """Read the finished runs of a grid from MLflow; where a cell was run twice, the last one counts.

    Args:
        grid: name of the grid.
        uri: MLflow store.

    Raises:
        InputError: the store has no such grid, or none of its runs is finished.
    """
    client, parent = find_grid(uri, grid)
    plan = read_plan(client, parent)
    planned = pd.DataFrame(plan["cells"])
    latest = list(latest_runs(client, parent, set(planned["cell"])).values())
    if not latest:
        raise InputError(f"no run of the grid {grid!r} is finished: type its `experiment run` command again")
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in _TABLES}
    rows = []
    for run in latest:
        keys = _keys(run)
        rows.append({**keys, **_about(run)})
        for name in _TABLES:
            if _has(client, run, name):
                table = pd.read_csv(_artifact(client, run.info.run_id, name), dtype={"subject": str, "site": str})
                # the run says it all, and its tags are of one kind in all tables
                own = table.drop(columns=[k for k in keys if k in table])
                parts[name].append(pd.concat([pd.DataFrame([keys] * len(own), index=own.index), own], axis=1))
    tables = {name: _joined(frames) for name, frames in parts.items()}
    return Results(
        grid=grid,
        uri=uri,
        runs=pd.DataFrame(rows),
        scores=tables["metrics.csv"],
        invariance=_by_encoder(tables["invariance.csv"]),
        cases=tables["cases.csv"],
        features=tables["features.csv"],
        across=tables["across.csv"],
        planned=planned,
        facts=plan["facts"],
    )


def _keys(run: Any) -> dict[str, Any]:
    tags = run.data.tags
    keys: dict[str, Any] = {name: tags.get(name, "") for name in KEYS}
    return {**keys, "fraction": float(keys["fraction"]), "seed": int(keys["seed"])}


def _about(run: Any) -> dict[str, Any]:
    info, tags = run.info, run.data.tags
    return {
        "cell": tags[CELL_TAG],
        "run_id": info.run_id,
        "started": pd.Timestamp(info.start_time, unit="ms", tz="UTC"),
        "ended": pd.Timestamp(info.end_time, unit="ms", tz="UTC"),
        "minutes": float(run.data.metrics.get("minutes", float("nan"))),
        "patch_size": int(run.data.params.get("patch_size", 0)),
        "commit": tags.get("git_commit", "unknown"),
    }


def _has(client: Any, run: Any, name: str) -> bool:
    return any(entry.path == name for entry in client.list_artifacts(run.info.run_id))


def _artifact(client: Any, run_id: str, name: str) -> Path:
    return Path(client.download_artifacts(run_id, name))


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame()
    return pd.concat(frames, ignore_index=True)


def _by_encoder(table: pd.DataFrame) -> pd.DataFrame:
    """Return the invariance of each variant; the random encoder, measured beside each, once per seed."""
    if table.empty:
        return table
    trained = table[table["encoder"] == "pretrained"]
    untrained = table[table["encoder"] == "random"].assign(variant="random")
    untrained = untrained.drop_duplicates(["seed", "level", "metric"])
    return pd.concat([trained, untrained], ignore_index=True).drop(columns="encoder")
