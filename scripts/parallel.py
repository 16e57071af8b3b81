"""One runner of many jobs by a team of workers: threads, this process itself, or those of `scripts.processes`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from scripts.errors import InputError

__all__ = [
    "InPlace",
    "Team",
    "Threads",
    "available_cores",
    "default_jobs",
    "progress_bar",
    "run_all",
    "run_jobs",
    "shared_threads",
]

J = TypeVar("J")


class Team(Protocol):
    """Workers that `run_jobs` hands jobs to.

    Attributes:
        size: how many jobs they work on at once.
    """

    size: int

    def submit(self, work: Callable[[J], object], job: J) -> Future[Any]:
        """Begin a job; called while fewer than ``size`` are running."""

    def stop(self) -> None:
        """End all workers, and what they are at; called in any case."""


def run_jobs(
    jobs: Sequence[J],
    work: Callable[[J], object],
    team: Team,
    *,
    until: float | None = None,
    waits_for: Callable[[J], J | None] | None = None,
) -> Generator[tuple[J, BaseException | None], None, None]:
    """Yield each job with its error, or None, as it ends; ends the team when it is through, closed or interrupted.

    No more jobs are handed out than there are workers, so that those that wait are not lost with a worker.

    Args:
        jobs: in the order in which they are begun.
        work: called with a job; its result is dropped.
        team: who works.
        until: `time.monotonic` at which the team is stopped; jobs that were not through are not yielded.
        waits_for: the job that one has to wait for, if that is among ``jobs`` and before it.
    """
    waiting = list(jobs)
    running: dict[Future[Any], J] = {}
    try:
        while waiting or running:
            for job in _ready(waiting, list(running.values()), waits_for, team.size - len(running)):
                waiting.remove(job)
                running[team.submit(work, job)] = job
            left = None if until is None else max(until - time.monotonic(), 0.0)
            ended = wait(running, timeout=left, return_when=FIRST_COMPLETED).done
            if not ended:
                return
            for done in ended:
                yield running.pop(done), done.exception()
    finally:
        team.stop()


def run_all(
    jobs: Sequence[J], work: Callable[[J], object], team: Team, *, what: str, unit: str, progress: bool, done: int = 0
) -> None:
    """Have ``work`` done on all jobs, with a bar; the first failure stops those not begun and is raised.

    Args:
        jobs: in the order in which they are begun.
        work: called with a job.
        team: who works.
        what: before the bar.
        unit: what the bar counts.
        progress: whether to show the bar.
        done: jobs that were done before, for the bar.
    """
    with progress_bar(done + len(jobs), what, unit, progress, done) as bar:
        for _, error in run_jobs(jobs, work, team):
            if error is not None:
                raise error
            bar.update()


def progress_bar(total: int, what: str, unit: str, progress: bool = True, done: int = 0) -> Any:
    """Return a bar with the time left, which is that of the last jobs, as jobs side by side end in bursts."""
    return tqdm(total=total, desc=what, unit=unit, disable=not progress or not total, initial=done, smoothing=0.1)


class InPlace:
    """This process itself, one job after the other."""

    size = 1

    def submit(self, work: Callable[[J], object], job: J) -> Future[Any]:
        """Do a job."""
        done: Future[Any] = Future()
        try:
            done.set_result(work(job))
        except Exception as error:
            done.set_exception(error)
        return done

    def stop(self) -> None:
        """Do nothing."""


class Threads:
    """Threads of this process; when it is stopped, those that are at work finish their jobs.

    Args:
        size: how many.
        torch_threads: threads that torch takes in each of them, and in this process meanwhile; None changes nothing.
    """

    def __init__(self, size: int, torch_threads: int | None = None) -> None:
        self.size = size
        self.before: int | None = None
        begin: tuple[Any, ...] = (None, ())
        if torch_threads is not None:
            import torch

            self.before = torch.get_num_threads()
            begin = torch.set_num_threads, (torch_threads,)
        self.pool = ThreadPoolExecutor(size, initializer=begin[0], initargs=begin[1])

    def submit(self, work: Callable[[J], object], job: J) -> Future[Any]:
        """Begin a job."""
        return self.pool.submit(work, job)

    def stop(self) -> None:
        """Wait for the jobs that were begun."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        if self.before is not None:
            import torch

            torch.set_num_threads(self.before)


def default_jobs(jobs: int | None, most: int = 8) -> int:
    """Return how many jobs to do at once: ``jobs``, or one per core that we may use, at most ``most``.

    Raises:
        InputError: if ``jobs`` is no whole number from 1 on.
    """
    if jobs is None:
        return min(available_cores(), most)
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InputError(f"jobs is {jobs}: choose a whole number, 1 or more, or leave it out")
    return jobs


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_threads(processes: int) -> int:
    """Return how many threads each of some processes gets: what ``OMP_NUM_THREADS`` says, or all cores together."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(chosen) if chosen.isdecimal() else available_cores() // processes)


def _ready(waiting: list[J], running: list[J], waits_for: Callable[[J], J | None] | None, most: int) -> list[J]:
    if waits_for is None:
        return waiting[:most]
    ahead = [*running, *waiting]
    return list(islice((job for job in waiting if waits_for(job) not in ahead), most))
