"""Processes that work for this one and never outlive it, and how Ctrl-C reaches them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from scripts.errors import find_input_error
from scripts.parallel import shared_threads

__all__ = ["DeferredInterrupts", "InterruptedOnce", "Processes", "follow_parent", "interrupts_held"]

J = TypeVar("J")

_GRACE = 30  # seconds that an interrupted job has to say so where it keeps its records
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


class Processes:
    """New processes, which end with this one, however it ends; a killed one costs its own job only.

    The error of such a job is a `BrokenProcessPool`. When the team is stopped, jobs are interrupted as by Ctrl-C.

    Args:
        size: how many; they are begun when there are jobs for them.
        threads: threads that libraries take in each; None shares the cores among them.
    """

    def __init__(self, size: int, threads: int | None = None) -> None:
        self.size = size
        self.threads = threads or shared_threads(size)
        self.workers: list[ProcessPoolExecutor] = []
        self.idle: list[ProcessPoolExecutor] = []
        self.busy: dict[Future[Any], ProcessPoolExecutor] = {}

    def submit(self, work: Callable[[J], object], job: J) -> Future[Any]:
        """Begin a job."""
        for done in [future for future in self.busy if future.done()]:
            worker = self.busy.pop(done)
            (self.workers.remove if isinstance(done.exception(), BrokenProcessPool) else self.idle.append)(worker)
        while True:
            worker = self.idle.pop() if self.idle else self._hire()
            with contextlib.suppress(BrokenProcessPool), interrupts_held():
                future: Future[Any] = worker.submit(_do, work, job)
                self.busy[future] = worker
                return future
            self.workers.remove(worker)  # killed while it was idle

    def stop(self) -> None:
        """End the processes; a second Ctrl-C kills those that are still at it."""
        processes = [process for worker in self.workers for process in (worker._processes or {}).values()]
        for worker in self.workers:
            worker.shutdown(wait=False, cancel_futures=True)
        try:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid or 0, signal.SIGINT)
            until = time.monotonic() + _GRACE
            for process in processes:
                process.join(max(until - time.monotonic(), 0.0))
        finally:
            for process in processes:
                if process.is_alive():
                    process.kill()

    def _hire(self) -> ProcessPoolExecutor:
        # a pool for each process, so that the death of one leaves the others alone
        context = multiprocessing.get_context("spawn")
        self.workers.append(ProcessPoolExecutor(1, mp_context=context, initializer=_begin, initargs=(self.threads,)))
        return self.workers[-1]


class InterruptedOnce:
    """Lets Ctrl-C interrupt what is done within, once: what is sent again would cut short its tidying up.

    Between two blocks nothing is interrupted, but the next one is at once.
    """

    def __init__(self) -> None:
        self.came = self.within = False
        signal.signal(signal.SIGINT, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])

    def __enter__(self) -> None:
        self.within = True
        if self.came:
            raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None:
        self.within = False
        signal.signal(signal.SIGINT, self._note)  # a library may have set its own

    def _note(self, *_: object) -> None:
        first, self.came = not self.came, True
        if first and self.within:
            raise KeyboardInterrupt


class DeferredInterrupts:
    """Lets Ctrl-C wait while something is done that must not be cut short, in this process.

    By a handler and not by a mask: whatever thread of a library the signal reaches, Python tells the main one.
    """

    def __init__(self) -> None:
        self.before: Any = None
        self.came = False

    def hold(self, *_: object) -> None:
        """Let it wait."""
        if self.before is None and threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self._note)

    def release(self) -> None:
        """Let it interrupt again, at once if it came meanwhile."""
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)
            self.before = None
        if self.came:
            self.came = False
            raise KeyboardInterrupt

    def _note(self, *_: object) -> None:
        self.came = True


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait, also in processes that begin meanwhile, until these have an `InterruptedOnce`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """End this process when the one that started it ends, however that is."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


_interrupted: InterruptedOnce | None = None  # of a process of `Processes`


def _begin(threads: int) -> None:
    global _interrupted
    for name in _THREADS:
        os.environ[name] = str(threads)
    if threads > 1 or "torch" in sys.modules:  # of the variables it heeds a 1, when it is imported
        import torch

        torch.set_num_threads(threads)
    follow_parent()
    _interrupted = InterruptedOnce()


def _do(work: Callable[[J], object], job: J) -> None:
    assert _interrupted is not None
    try:
        with _interrupted:
            work(job)
    except Exception as error:
        known = find_input_error(error)
        if known is None:
            raise
        raise known from None  # a chain of causes does not go from process to process
