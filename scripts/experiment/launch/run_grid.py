"""Running a grid: what will run and how long it takes, then stage by stage, continued whenever it is typed again."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from scripts.errors import InputError
from scripts.experiment.grid.cells import Cell, Choice, expand
from scripts.experiment.grid.presets import Preset
from scripts.experiment.launch.begin import begin_grid, clock
from scripts.experiment.launch.execute import execute, headline
from scripts.experiment.launch.launchers import LaunchOptions, submit_stages
from scripts.experiment.launch.steps import Job, Place
from scripts.parallel import progress_bar, run_jobs
from scripts.processes import Processes
from scripts.tasks import LAYOUTS, PRETRAIN

__all__ = ["Outcome", "plan", "run_grid", "submit_grid"]

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
    preset: Preset,
    choice: Choice,
    out: Path,
    *,
    grid: str | None = None,
    uri: str | None = None,
    data: dict[str, str | None] | None = None,
    gpus: int = 1,
) -> list[Job]:
    """Return the jobs of a grid, in the order in which they are run.

    Args:
        preset: the grid.
        choice: the part of it that is wanted.
        out: folder of everything.
        grid: its name; None takes that of the preset.
        uri: MLflow store; None is ``mlruns.db`` in ``out``, or that of ``MLFLOW_TRACKING_URI``.
        data: layout (qmri, ixi, arc) -> folder of the user's own dataset, None for the embedded cohort.
        gpus: of each training.

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
            size = "-".join(f"{name}{value:g}" for name, value in cohort.items() if not isinstance(value, str))
            made_of = [value for value in cohort.values() if isinstance(value, str)]
            digest = f"-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:8]}" if made_of else ""
            folders[layout] = str((out / "data" / f"{layout}-{size}{digest}").resolve())
    cells = expand(preset, choice, identity)
    missing = sorted({LAYOUTS[cell.task] for cell in cells if not folders[LAYOUTS[cell.task]]})
    if missing:
        options = ", ".join(f"{_COHORTS[layout]} DIR" for layout in missing)
        raise InputError(f"the preset {preset.name} is for real data: give {options}, see docs/data")
    store = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlruns.db').resolve()}"
    named = f" --grid {grid}" if grid else ""
    command = f"python -m scripts experiment run --preset {preset.name}{named}{choice.options()}"
    place = Place(grid or preset.name, out.resolve(), store, folders, gpus, command)
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
    todo = begin_grid(jobs, preset, processes)
    outcome = Outcome(finished=[job.name for job in jobs if job not in todo])
    _run(todo, processes, minutes, outcome)
    outcome.left = [job.name for job in todo if job.name not in {*outcome.finished, *outcome.failed}]
    return outcome


def submit_grid(jobs: Sequence[Job], preset: Preset, launcher: str, options: LaunchOptions) -> Outcome:
    """Hand what is not finished to submitit, pretrainings first.

    Args:
        jobs: the result of `plan`.
        preset: theirs.
        launcher: local or slurm.
        options: how many at once, and what each may use.

    Returns:
        What became of each cell; those that were handed to Slurm and not waited for are left.
    """
    place = jobs[0].place
    todo = begin_grid(jobs, preset, options.jobs or 1)
    launch = submit_stages(
        [
            ("pretraining", [job for job in todo if job.cell.task == PRETRAIN]),
            ("tasks", [job for job in todo if job.cell.task != PRETRAIN]),
        ],
        execute,
        launcher=launcher,
        folder=place.out / "jobs",
        options=options,
        title=lambda job: job.cell.title,
        headline=headline,
        name=f"seqinv-{place.grid}",
        afterwards=f"python -m scripts experiment report --out {place.out}",
    )
    done = [job.name for job in jobs if job not in todo]
    return Outcome(
        finished=[*done, *(job.name for job in launch.finished)],
        failed={job.name: why for job, why in launch.failed},
        left=[job.name for job in launch.left],
    )


def _run(jobs: Sequence[Job], processes: int, minutes: float | None, outcome: Outcome) -> None:
    by_name = {job.name: job for job in jobs}

    def encoder(job: Job) -> Job | None:
        return by_name.get(job.cell.encoder)

    left = _Clock(jobs, processes, minutes)
    team = Processes(max(1, min(processes, len(jobs))))
    with progress_bar(len(jobs), "grid", "run") as bar:
        for job, error in run_jobs(jobs, execute, team, until=left.until, waits_for=encoder):
            bar.update()
            words = left.after(job, failed=error is not None)
            if error is None:
                outcome.finished.append(job.name)
                tqdm.write(f"{job.cell.title}: {headline(job)} ({words})")
            else:
                outcome.failed[job.name] = _reason(job, error)
                tqdm.write(f"{job.cell.title}: FAILED, {outcome.failed[job.name]} ({words})")


class _Clock:
    """Estimates what is left from what was seen in this run, and from the preset's seconds before that."""

    def __init__(self, jobs: Sequence[Job], processes: int, minutes: float | None) -> None:
        self.left = {job.name: job.cell for job in jobs}
        self.processes = processes
        self.began = time.monotonic()
        self.last = [self.began] * processes
        self.until = None if minutes is None else self.began + 60 * minutes
        self.seen: dict[str, list[float]] = {}

    def after(self, job: Job, *, failed: bool) -> str:
        now = time.monotonic()
        # of the processes side by side, the one that has been at it the longest has ended
        took = now - self.last.pop(0)
        self.last.append(now)
        del self.left[job.name]
        if not failed:
            self.seen.setdefault(job.cell.task, []).append(took)
        seconds = sum(self._expected(cell) for cell in self.left.values())
        rest = f"{len(self.left)} left, about {clock(seconds)}" if self.left else "the last one"
        return f"{clock(took)}; {rest}"

    def _expected(self, cell: Cell) -> float:
        """Seconds of the whole machine: those of a run that shared it with others count in part."""
        seen = self.seen.get(cell.task)
        return statistics.median(seen) / self.processes if seen else cell.seconds


def _reason(job: Job, error: BaseException) -> str:
    if isinstance(error, BrokenProcessPool):
        return f"its process was killed, as the system does when memory runs out; see {job.log}"
    return str(error)
