"""Working through the subjects of a dataset in parallel processes: one bad subject does not stop the others."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from scripts.errors import InputError, find_input_error

__all__ = ["default_jobs", "follow_parent", "run_subjects"]

_MOST_JOBS = 8  # a subject takes up to 2 GB
_FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


def default_jobs(jobs: int | None) -> int:
    """Return how many subjects to work on at once: ``jobs``, or one per core that we may use, at most 8.

    Raises:
        InputError: if ``jobs`` is no whole number from 1 on.
    """
    if jobs is None:
        return min(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MOST_JOBS
        )
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise InputError(f"jobs is {jobs}: choose a whole number, 1 or more, or leave it out")
    return jobs


def run_subjects(
    names: Sequence[str],
    work: Callable[[str], None],
    *,
    jobs: int | None = None,
    progress: bool = True,
    what: str = "subjects",
    logs: Path | None = None,
) -> dict[str, str]:
    """Call ``work(name)`` for each name and return why those that failed did, one line each.

    Several names are worked on side by side in processes of one thread each, which end with this one, however it
    ends. What went wrong with a name is told at once; the others go on.

    Args:
        names: of the subjects.
        work: a function of a module, or a `functools.partial` of one; its result is dropped.
        jobs: processes; None takes one per core, at most 8; 1 works in this process.
        progress: whether to show a bar with the time left.
        what: the unit of the bar.
        logs: folder for the traceback of a failure that is not an `InputError`, as ``<name>.log``.

    Returns:
        ``{name: reason}`` of the failed ones, in the order of ``names``.

    Raises:
        InputError: if the disk is full or a process was killed; nothing more is begun then.
    """
    jobs = min(default_jobs(jobs), max(1, len(names)))
    failed: dict[str, str] = {}
    with tqdm(total=len(names), desc=what, disable=not progress or not names, smoothing=0.1) as bar:
        for name, error in _outcomes(names, work, jobs):
            if error is not None:
                failed[name] = _reason(name, error, logs)
                tqdm.write(f"{name}: {failed[name]}")
            bar.update()
    return {name: failed[name] for name in names if name in failed}


def _outcomes(
    names: Sequence[str], work: Callable[[str], None], jobs: int
) -> Iterator[tuple[str, BaseException | None]]:
    if jobs == 1:
        for name in names:
            try:
                work(name)
            except Exception as error:
                yield name, error
            else:
                yield name, None
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin_worker) as pool:
        pending: dict[Future[None], str] = {pool.submit(work, name): name for name in names}
        try:
            for done in as_completed(pending):
                yield pending[done], done.exception()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Use one thread, and end with the parent: a pool's processes would outlive a parent that was killed."""
    for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    import torch

    torch.set_num_threads(1)
    follow_parent()


def follow_parent() -> None:
    """End this process when the one that started it ends, however that is."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _reason(name: str, error: BaseException, logs: Path | None) -> str:
    """Return one line about a failure of one subject; raise what concerns all of them."""
    if isinstance(error, BrokenProcessPool):
        raise InputError(
            "a process was killed, as the system does when memory runs out: type the same command with a smaller "
            "--jobs; what is finished stays"
        ) from error
    if isinstance(error, OSError) and error.errno in _FULL:
        where = error.filename or "the disk"
        raise InputError(
            f"no space left for {where} while working on {name}: free some and type the same command again; what is "
            "finished stays"
        ) from error
    known = find_input_error(error)
    if known is not None:
        return str(known)
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name}.log"
        log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        return f"{_short(error)}: see {log}, leave the subject out or tell us"
    logger.error("%s failed", name, exc_info=error)
    return _short(error)


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} ({lines[0][:120]})" if lines else type(error).__name__
