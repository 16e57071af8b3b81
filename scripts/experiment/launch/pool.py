"""Jobs in processes side by side, which share their start-up: a failure, even a killed process, stops no other."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from scripts.parallel import follow_parent

__all__ = ["run_jobs", "shared_threads"]

J = TypeVar("J")

_GRACE = 30  # seconds that a stopped job has to say so where it keeps its records


def run_jobs(
    jobs: Sequence[J],
    work: Callable[[J], None],
    *,
    processes: int = 1,
    until: float | None = None,
    waits_for: Callable[[J], J | None] = lambda _: None,
) -> Generator[tuple[J, BaseException | None], None, None]:
    """Yield each job with its error, or None, as it ends.

    No more jobs are handed out than there are processes, so that those that wait are not lost with a process that
    the system kills; the killed one's error is a `BrokenProcessPool`.

    Args:
        jobs: in the order in which they are begun.
        work: a function of a module.
        processes: how many work side by side, sharing the cores; they end with this one, however it ends.
        until: `time.monotonic` at which they are stopped as by Ctrl-C; jobs that were not through are not yielded.
        waits_for: the job that one has to wait for, if that is among ``jobs`` and before it.
    """
    waiting = list(jobs)
    processes = max(1, min(processes, len(waiting)))
    while waiting:
        pool = _pool(processes)
        running: dict[Future[None], J] = {}
        try:
            broken = False
            while running or (waiting and not broken):
                ahead = [*running.values(), *waiting]
                ready = [job for job in waiting if waits_for(job) not in ahead]
                for job in ready[: 0 if broken else processes - len(running)]:
                    waiting.remove(job)
                    running[pool.submit(work, job)] = job
                ended = wait(running, timeout=_left(until), return_when=FIRST_COMPLETED).done
                if not ended:
                    return
                for done in ended:
                    error = done.exception()
                    broken = broken or isinstance(error, BrokenProcessPool)
                    yield running.pop(done), error
        finally:
            _stop(pool, running)


def shared_threads(processes: int) -> int:
    """Return how many threads each of some processes gets: what ``OMP_NUM_THREADS`` says, or all cores together."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal():
        return max(1, int(told))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // processes)


def _pool(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    threads = shared_threads(processes)
    return ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(threads,))


def _begin(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
    follow_parent()


def _left(until: float | None) -> float | None:
    return None if until is None else max(until - time.monotonic(), 0.0)


def _stop(pool: ProcessPoolExecutor, running: Collection[Future[None]]) -> None:
    """End the processes; a job that is still at it is interrupted as by Ctrl-C, so that it can say so."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    if running:
        wait(running, timeout=2)  # after Ctrl-C in a terminal they were told already
        if any(not future.done() for future in running):
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGINT)
    for process in processes:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
