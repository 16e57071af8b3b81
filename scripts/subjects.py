"""Working through the subjects of a dataset side by side: one bad subject does not stop the others."""

from __future__ import annotations

import errno
import logging
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from scripts.errors import DiskFullError, InputError, find_input_error
from scripts.parallel import InPlace, default_jobs, progress_bar, run_jobs
from scripts.processes import Processes

__all__ = ["run_subjects"]

_FULL = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


def run_subjects(
    names: Sequence[str],
    work: Callable[[str], object],
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
        jobs: processes; None takes one per core, at most 8, as a subject takes up to 2 GB; 1 works in this process.
        progress: whether to show a bar with the time left.
        what: before the bar.
        logs: folder for the traceback of a failure that is not an `InputError`, as ``<name>.log``.

    Returns:
        ``{name: reason}`` of the failed ones, in the order of ``names``.

    Raises:
        InputError: if the disk is full or a process was killed; all stop then.
    """
    side_by_side = min(default_jobs(jobs), len(names))
    failed: dict[str, str] = {}
    with progress_bar(len(names), what, "subject", progress) as bar:
        for name, error in run_jobs(names, work, Processes(side_by_side, 1) if side_by_side > 1 else InPlace()):
            if error is not None:
                failed[name] = _reason(name, error, logs)
                tqdm.write(f"{name}: {failed[name]}")
            bar.update()
    return {name: failed[name] for name in names if name in failed}


def _reason(name: str, error: BaseException, logs: Path | None) -> str:
    """Return one line about a failure of one subject; raise what concerns all of them."""
    if isinstance(error, BrokenProcessPool):
        raise InputError(
            "a process was killed, as the system does when memory runs out: type the same command with a smaller "
            "--jobs; what is finished stays"
        ) from error
    known = find_input_error(error)
    if isinstance(known, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL):
        where = str(known).partition(" cannot be written")[0] if known else getattr(error, "filename", "") or "the disk"
        raise InputError(
            f"no space left for {where} while working on {name}: free some and type the same command again; what is "
            "finished stays"
        ) from error
    if known is not None:
        return str(known)
    lines = str(error).strip().splitlines()
    short = f"{type(error).__name__} ({lines[0][:120]})" if lines else type(error).__name__
    if logs is None:
        logger.error("%s failed", name, exc_info=error)
        return short
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    log.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return f"{short}: see {log}, leave the subject out or tell us"
