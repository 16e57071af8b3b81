"""What is done before the first run of a grid: cohorts, its record in MLflow, and words."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.experiment.grid.cells import Cell
from scripts.experiment.grid.presets import Preset
from scripts.experiment.launch.execute import is_finished
from scripts.experiment.launch.steps import Job
from scripts.handlers.mlflow_store import ensure_parent, find_parent, git_commit, open_store
from scripts.tasks import LAYOUTS

__all__ = ["announce", "begin_grid", "clock", "make_cohorts", "record_plan"]


def begin_grid(jobs: Sequence[Job], preset: Preset, processes: int) -> list[Job]:
    """Make the cohorts, record the plan, say what will run; return the jobs that are not finished.

    Args:
        jobs: the result of `scripts.experiment.launch.run_grid.plan`.
        preset: theirs.
        processes: how many run side by side.
    """
    client = open_store(jobs[0].place.uri)
    make_cohorts(jobs, preset)
    record_plan(jobs, preset, client, processes)
    todo = [job for job in jobs if not is_finished(job, client)]
    announce(jobs, todo)
    return todo


def announce(jobs: Sequence[Job], todo: Sequence[Job]) -> None:
    """Say what will run, and for how long."""
    place = jobs[0].place
    told = f"Grid {place.grid} in {place.out}: {len(jobs)} runs, {len(jobs) - len(todo)} of them finished"
    seconds = sum(job.cell.seconds for job in todo)
    tqdm.write(f"{told}, {len(todo)} to do" + (f", about {clock(seconds)}." if seconds else "."))
    by_task: dict[str, list[Cell]] = {}
    for job in todo:
        by_task.setdefault(job.cell.task, []).append(job.cell)
    for task, cells in by_task.items():
        variants = ", ".join(dict.fromkeys(cell.variant for cell in cells))
        modalities = ", ".join(dict.fromkeys(cell.modality for cell in cells))
        fractions = ", ".join(dict.fromkeys(f"{cell.fraction:.0%}" for cell in cells))
        tqdm.write(f"  {task:12s} {len(cells):3d} runs: {variants}; {modalities}; labels {fractions}")


def make_cohorts(jobs: Sequence[Job], preset: Preset) -> None:
    """Make the embedded cohorts that the jobs read, those that are not there yet."""
    from scripts.cohort.arc_cohort import make_arc_cohort
    from scripts.cohort.ixi_cohort import make_ixi_cohort
    from scripts.cohort.qmri_cohort import make_qmri_cohort

    makers: dict[str, Any] = {"qmri": make_qmri_cohort, "ixi": make_ixi_cohort, "arc": make_arc_cohort}
    place = jobs[0].place
    for layout in {LAYOUTS[job.cell.task]: None for job in jobs}:
        folder = Path(place.data[layout])
        if folder.is_relative_to(place.out / "data"):
            makers[layout](folder, **{"seed": 0, **(preset.cohorts or {})[layout]})


def record_plan(jobs: Sequence[Job], preset: Preset, client: Any, processes: int) -> None:
    """Write into the grid's own MLflow run which cells belong to it; those of earlier plans stay, unless replaced."""
    place = jobs[0].place
    parent = find_parent(client, place.grid)
    known: dict[str, Any] = {}
    if parent is not None and any(entry.path == "grid.json" for entry in client.list_artifacts(parent.info.run_id)):
        known = json.loads(Path(client.download_artifacts(parent.info.run_id, "grid.json")).read_text(encoding="utf-8"))
    parent = ensure_parent(client, place.uri, f"grid-{place.grid}", place.grid)
    cells = {_key(cell): cell for cell in known.get("cells", [])}
    ours = {_key(row): row for row in ({**job.cell.keys(), "cell": job.name} for job in jobs)}
    # a command that runs all of the grid makes those of its parts superfluous
    before = [] if cells.keys() <= ours.keys() else known["facts"].get("commands", [])
    cells.update(ours)
    facts = {
        "preset": preset.name,
        "description": preset.description,
        "commands": list(dict.fromkeys([*before, place.command])),
        "commit": git_commit(),
        "started": known.get("facts", {}).get("started") or time.strftime("%Y-%m-%d %H:%M:%S"),
        "hardware": _hardware(),
        "processes": processes,
        "recipes": {name: recipe.words for name, recipe in preset.recipes.items()},
        **{layout: folder for layout, folder in place.data.items() if folder},
    }
    client.log_dict(parent.info.run_id, {"cells": list(cells.values()), "facts": facts}, "grid.json")


def clock(seconds: float) -> str:
    """Return a duration in words."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("task", "variant", "modality", "fraction", "seed"))


def _hardware() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {cores} cores, {gpu}"
