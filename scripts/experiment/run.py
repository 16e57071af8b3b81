"""Running a grid: what will run and how long it takes, then stage by stage, continued whenever it is typed again."""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.errors import InputError
from scripts.experiment.execute import Job, Place, execute, headline, is_finished
from scripts.experiment.grid import Cell, Choice, expand
from scripts.experiment.pool import run_jobs
from scripts.experiment.presets import Preset
from scripts.workflow.mlflow_run import ensure_parent, find_parent, git_commit, quiet_client

__all__ = ["Outcome", "plan", "run_grid"]

logger = logging.getLogger(__name__)

_COHORTS = {"qmri": "--qmri", "ixi": "--ixi", "arc": "--arc"}


@dataclass
class Outcome:
    """What became of the cells of a grid."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def tell(self, jobs: Sequence[Job]) -> None:
        """Say how it went and what to type next; exit with status 3 where some failed.

        Raises:
            SystemExit: some cells failed.
        """
        place = jobs[0].place
        tqdm.write(f"\n{len(self.finished)} of {len(jobs)} runs are finished, in {place.out}")
        if self.left:
            tqdm.write(f"{len(self.left)} are left: type the same command again to go on")
        for name, reason in self.failed.items():
            tqdm.write(f"failed: {name}: {reason}")
        if self.finished:
            tqdm.write(f"Tables, figures and a page of it:  python -m scripts experiment report --out {place.out}")
            tqdm.write(f"Runs side by side in MLflow:       python -m scripts experiment compare --out {place.out}")
        if self.failed:
            tqdm.write("Failed ones are tried again when the same command is typed.")
            raise SystemExit(3)


def plan(
    preset: Preset, choice: Choice, out: Path, *, uri: str | None = None, data: dict[str, str | None] | None = None
) -> list[Job]:
    """Return the jobs of a grid, in the order in which they are run.

    Args:
        preset: the grid.
        choice: the part of it that is wanted.
        out: folder of everything.
        uri: MLflow store; None is ``mlruns.db`` in ``out``, or that of ``MLFLOW_TRACKING_URI``.
        data: layout (qmri, ixi, arc) -> folder of the user's own dataset, None for the embedded cohort.

    Raises:
        InputError: a choice that the preset does not have, a folder that is not there, or data that are needed.
    """
    given = {layout: folder for layout, folder in (data or {}).items() if folder}
    identity, folders = {}, {}
    for layout in _COHORTS:
        if layout in given:
            folder = Path(given[layout]).resolve()
            if not folder.is_dir():
                raise InputError(f"{_COHORTS[layout]} {folder} is no folder: give that of the prepared dataset")
            identity[layout], folders[layout] = str(folder), str(folder)
        elif preset.cohorts is None:
            identity[layout], folders[layout] = "", ""
        else:
            cohort = preset.cohorts[layout]
            identity[layout] = json.dumps(cohort, sort_keys=True)
            told = "-".join(f"{name}{value:g}" for name, value in cohort.items())
            folders[layout] = str((out / "data" / f"{layout}-{told}").resolve())
    cells = expand(preset, choice, identity)
    missing = sorted({_layout(cell) for cell in cells if not folders[_layout(cell)]})
    if missing:
        options = ", ".join(f"{_COHORTS[layout]} DIR" for layout in missing)
        raise InputError(f"the preset {preset.name} is for real data: give {options}, see docs/data")
    store = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlruns.db').resolve()}"
    place = Place(preset.name, out.resolve(), store, folders)
    return [Job(cell, place) for cell in cells]


def run_grid(jobs: Sequence[Job], preset: Preset, *, processes: int = 1, minutes: float | None = None) -> Outcome:
    """Run what is not finished, pretrainings first; a failure is told and the rest goes on.

    Args:
        jobs: the result of `plan`.
        preset: theirs.
        processes: how many run side by side.
        minutes: stop after so many; None runs to the end.

    Returns:
        What became of each cell.
    """
    place = jobs[0].place
    client = quiet_client()(place.uri)
    make_cohorts(jobs, preset)
    record_plan(jobs, preset, client, processes)
    todo = [job for job in jobs if not is_finished(job, client)]
    outcome = Outcome(finished=[job.name for job in jobs if job not in todo])
    announce(jobs, todo)
    _run(todo, processes, minutes, outcome)
    outcome.left = [job.name for job in todo if job.name not in {*outcome.finished, *outcome.failed}]
    return outcome


def announce(jobs: Sequence[Job], todo: Sequence[Job]) -> None:
    """Say what will run, and for how long."""
    place = jobs[0].place
    told = f"Grid {place.grid} in {place.out}: {len(jobs)} runs, {len(jobs) - len(todo)} of them finished"
    seconds = sum(job.cell.seconds for job in todo)
    tqdm.write(f"{told}, {len(todo)} to do" + (f", about {_clock(seconds)}." if seconds else "."))
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
    from scripts.data.cohort.arc import make_arc_cohort
    from scripts.data.cohort.ixi import make_ixi_cohort
    from scripts.data.cohort.qmri import make_qmri_cohort

    makers: dict[str, Any] = {"qmri": make_qmri_cohort, "ixi": make_ixi_cohort, "arc": make_arc_cohort}
    place = jobs[0].place
    for layout in {_layout(job.cell): None for job in jobs}:
        folder = Path(place.data[layout])
        if folder.is_relative_to(place.out / "data"):
            makers[layout](folder, **{"seed": 0, **(preset.cohorts or {})[layout]})


def record_plan(jobs: Sequence[Job], preset: Preset, client: Any, processes: int) -> None:
    """Write into the grid's own MLflow run which cells belong to it; those of earlier plans stay, unless replaced."""
    place = jobs[0].place
    parent = find_parent(client, place.grid)
    known: dict[str, Any] = {}
    if parent is not None and any(entry.path == "grid.json" for entry in client.list_artifacts(parent.info.run_id)):
        known = json.loads(Path(client.download_artifacts(parent.info.run_id, "grid.json")).read_text())
    parent = ensure_parent(client, place.uri, f"grid-{place.grid}", place.grid)
    cells = {_key(cell): cell for cell in known.get("cells", [])}
    for job in jobs:
        row = {**job.cell.keys(), "cell": job.name}
        cells[_key(row)] = row
    facts = {
        "preset": preset.name,
        "description": preset.description,
        "commit": git_commit(),
        "started": known.get("facts", {}).get("started") or time.strftime("%Y-%m-%d %H:%M:%S"),
        "hardware": _hardware(),
        "processes": processes,
        **{layout: folder for layout, folder in place.data.items() if folder},
    }
    client.log_dict(parent.info.run_id, {"cells": list(cells.values()), "facts": facts}, "grid.json")


def _run(jobs: Sequence[Job], processes: int, minutes: float | None, outcome: Outcome) -> None:
    by_name = {job.name: job for job in jobs}
    clock = _Clock(jobs, processes, minutes)
    runs = run_jobs(
        jobs, execute, processes=processes, until=clock.until, waits_for=lambda job: by_name.get(job.cell.encoder)
    )
    with tqdm(total=len(jobs), desc="grid", unit="run", disable=not jobs) as bar:
        for job, error in runs:
            bar.update()
            told = clock.tell(job, failed=error is not None)
            if error is None:
                outcome.finished.append(job.name)
                tqdm.write(f"{job.cell.title}: {headline(job)} ({told})")
            else:
                outcome.failed[job.name] = _reason(job, error)
                tqdm.write(f"{job.cell.title}: FAILED, {outcome.failed[job.name]} ({told})")


class _Clock:
    """Estimates what is left from what was seen in this run, and from the preset's seconds before that."""

    def __init__(self, jobs: Sequence[Job], processes: int, minutes: float | None) -> None:
        self.left = {job.name: job.cell for job in jobs}
        self.processes = processes
        self.began = time.monotonic()
        self.last = [self.began] * processes
        self.until = None if minutes is None else self.began + 60 * minutes
        self.seen: dict[str, list[float]] = {}

    def tell(self, job: Job, *, failed: bool) -> str:
        now = time.monotonic()
        # of the processes side by side, the one that has been at it the longest has ended
        took = now - self.last.pop(0)
        self.last.append(now)
        del self.left[job.name]
        if not failed:
            self.seen.setdefault(job.cell.task, []).append(took)
        seconds = sum(self._expected(cell) for cell in self.left.values())
        rest = f"{len(self.left)} left, about {_clock(seconds)}" if self.left else "the last one"
        return f"{_clock(took)}; {rest}"

    def _expected(self, cell: Cell) -> float:
        """Seconds of the whole machine: those of a run that shared it with others count in part."""
        seen = self.seen.get(cell.task)
        return statistics.median(seen) / self.processes if seen else cell.seconds


def _reason(job: Job, error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return f"its process was killed, as the system does when memory runs out; see {job.log}"
    return str(error)


def _layout(cell: Cell) -> str:
    from scripts.experiment.grid import LAYOUTS

    return LAYOUTS[cell.task]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("task", "variant", "modality", "fraction", "seed"))


def _hardware() -> str:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{platform.machine()}, {cores} cores, {gpu}"


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if minutes >= 2 else f"{seconds:.0f} s"
