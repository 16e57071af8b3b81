"""Stages of jobs through submitit: in processes of this machine, or as one Slurm array per stage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from scripts.errors import InputError
from scripts.experiment.launch.local import LocalJobs, Machine
from scripts.experiment.launch.options import LaunchOptions
from scripts.experiment.launch.slurm import array_id, ended, submit_arrays
from scripts.experiment.launch.work import JobError, Launcher
from scripts.parallel import progress_bar, run_jobs

__all__ = ["Launch", "LaunchOptions", "submit_stages"]

T = TypeVar("T")


@dataclass
class Launch(Generic[T]):
    """What became of the jobs.

    Attributes:
        ids: stage -> Slurm's number of its array; empty for local jobs.
        finished: what was worked on to the end.
        failed: what failed, and why in one line.
        left: what was handed to Slurm and not waited for.
    """

    ids: dict[str, str] = field(default_factory=dict)
    finished: list[T] = field(default_factory=list)
    failed: list[tuple[T, str]] = field(default_factory=list)
    left: list[T] = field(default_factory=list)


def submit_stages(
    stages: Sequence[tuple[str, Sequence[T]]],
    work: Callable[[T], None],
    *,
    launcher: str,
    folder: Path,
    options: LaunchOptions | None = None,
    title: Callable[[T], str] = str,
    headline: Callable[[T], str] | None = None,
    name: str = "experiment",
    afterwards: str = "python -m scripts experiment report",
) -> Launch[T]:
    """Have ``work`` done on every item, stage after stage; a failure is told and the rest goes on.

    A job that is preempted or reaches its time limit is queued again, so ``work`` has to continue what it began. Local
    jobs end with this process, however it ends; Slurm's do not.

    Args:
        stages: (name, items); a stage begins when all of the one before have ended, well or not.
        work: a function of a module, called with one item in a process of its own.
        launcher: local or slurm.
        folder: gets a folder per launch, of logs and what submitit needs; for Slurm, one that all nodes see.
        options: how many jobs at once and what each may use.
        title: what an item is called.
        headline: how good the result of a finished item is, in a few words.
        name: of the jobs in Slurm's queue.
        afterwards: what to type when all is done.

    Raises:
        InputError: no such launcher, no submitit, no Slurm here, or Slurm refuses the jobs.
    """
    options = options or LaunchOptions()
    options.refuse_unread(launcher)
    submitit = _submitit()
    todo = [(stage, items) for stage, items in stages if items]
    folder = folder.resolve() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    teller = _Teller(title, headline, folder, Launch[T]())
    if launcher == "local":
        machine = Machine(options)
        with Launcher(folder) as this:
            for stage, items in todo:
                teller.tell_all(stage, len(items), run_jobs(items, work, LocalJobs(submitit, machine, this)))
        teller.sum_up(afterwards)
        return teller.launch
    arrays = submit_arrays(submitit, todo, work, folder, options, name)
    teller.begin(todo, arrays)
    if options.wait:
        for (stage, items), jobs in zip(todo, arrays, strict=True):
            teller.tell_all(stage, len(items), ended(items, jobs))
        teller.sum_up(afterwards)
    else:
        teller.launch.left = [item for _, items in todo for item in items]
        tqdm.write(f"When they are done, or to see how far they are:  {afterwards}")
    return teller.launch


@dataclass
class _Teller(Generic[T]):
    """Keeps count and says what became of each item."""

    title: Callable[[T], str]
    headline: Callable[[T], str] | None
    folder: Path
    launch: Launch[T]

    def begin(self, stages: Sequence[tuple[str, Sequence[T]]], arrays: Sequence[Sequence[Any]]) -> None:
        """Say what Slurm was handed, and how to see and stop it."""
        for (stage, items), jobs in zip(stages, arrays, strict=True):
            self.launch.ids[stage] = array_id(jobs)
            tqdm.write(f"{stage}: {len(items)} jobs, Slurm's number {array_id(jobs)}")
        if self.launch.ids:
            tqdm.write(f"Queue:  squeue --jobs={','.join(self.launch.ids.values())}")
            tqdm.write(f"Stop:   scancel {' '.join(self.launch.ids.values())}")
            tqdm.write(f"Logs:   {self.folder}")

    def tell_all(self, stage: str, n_items: int, outcomes: Iterable[tuple[T, BaseException | None]]) -> None:
        """Say of each item how it ended.

        Raises:
            BaseException: what went wrong with the launcher itself.
        """
        with progress_bar(n_items, stage, "run") as bar:
            for item, error in outcomes:
                if error is None:
                    self.launch.finished.append(item)
                    tqdm.write(f"{self.title(item)}: {self.headline(item) if self.headline else 'finished'}")
                elif isinstance(error, JobError):
                    self.launch.failed.append((item, str(error)))
                    tqdm.write(f"{self.title(item)}: FAILED, {error} (log: {error.log})")
                else:
                    raise error
                bar.update()

    def sum_up(self, afterwards: str) -> None:
        """Say how it went on the whole and what to type next."""
        launch = self.launch
        tqdm.write(f"\n{len(launch.finished)} finished, {len(launch.failed)} failed; logs in {self.folder}")
        for item, why in launch.failed:
            tqdm.write(f"failed: {self.title(item)}: {why}")
        tqdm.write(f"Now:  {afterwards}")


def _submitit() -> Any:
    try:
        import submitit
        import submitit.helpers
    except ImportError as error:
        raise InputError("--launcher needs submitit: pip install -e '.[cluster]'") from error
    return submitit
