"""What runs inside a launched job: it ends with its launcher, says in one line what went wrong, and can be requeued."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.errors import find_input_error
from scripts.processes import InterruptedOnce

__all__ = ["KILLED", "TURNS", "JobError", "Launcher", "Work", "failure"]

KILLED = "its process was killed, as the system does when memory runs out"
TURNS = 20  # of a job that runs into its time limit

_GRACE = 30  # seconds that an interrupted job has to say so where it keeps its records
_INTERRUPT = "interrupt"


class JobError(RuntimeError):
    """A job failed: the message is one line; ``log`` is the file with the whole, once the launcher knows it."""

    log = ""


class Work:
    """One call of a function, to be pickled by submitit and made in another process.

    The function and its argument are unpickled only when they are called, after the environment is set: threads and
    GPUs have to be chosen before torch is imported.

    Args:
        payload: the pickled pair of function and argument.
        environment: variables to set first.
        launcher: the lock of the `Launcher` with which the job has to end; None for a job on its own.
    """

    def __init__(self, payload: bytes, environment: Mapping[str, str], launcher: Path | None) -> None:
        self.payload = payload
        self.environment = dict(environment)
        self.launcher = launcher

    def __call__(self) -> None:
        """Do the work.

        Raises:
            JobError: whatever went wrong, in one line.
        """
        if self.launcher is not None:
            threading.Thread(target=_end_with, args=(self.launcher,), daemon=True).start()
        os.register_at_fork(after_in_child=_leave_signals_to_the_job)
        os.environ.update(self.environment)
        try:
            with InterruptedOnce():
                work, item = pickle.loads(self.payload)
                work(item)
        except Exception as error:
            raise JobError(_one_line(error)) from error

    def checkpoint(self) -> Any:
        """Return the same work once more: what is called continues from its own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Launcher:
    """Holds a lock by which jobs know that their launcher lives; the system releases it however this process ends.

    Args:
        folder: gets the file of the lock while this context lasts.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = folder / "launcher.lock"

    def __enter__(self) -> Launcher:
        self.stream = self.lock.open("w", encoding="utf-8")
        fcntl.flock(self.stream, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self.lock.unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Interrupt all jobs as by Ctrl-C; those that do not end by themselves then are ended."""
        self.stream.write(_INTERRUPT)
        self.stream.flush()
        fcntl.flock(self.stream, fcntl.LOCK_UN)


def failure(job: Any, otherwise: str) -> JobError | None:
    """Return why an ended job of submitit failed, None if it did not; ``otherwise`` if it left no word."""
    path, why = job.paths.result_pickle, otherwise
    if path.exists():
        outcome, value = pickle.loads(path.read_bytes())
        if outcome == "success":
            return None
        lines = [line for line in str(value).splitlines() if line.strip()] or ["it failed"]
        why = lines[-1].split(f"{JobError.__name__}: ", 1)[-1]
    error = JobError(why)
    error.log = str(job.paths.stderr)
    return error


def _end_with(lock: Path) -> None:
    how = ""
    with contextlib.suppress(FileNotFoundError), lock.open(encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)
        how = stream.read()
    if how == _INTERRUPT:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_GRACE)
    os._exit(1)


def _leave_signals_to_the_job() -> None:
    """Undo submitit's handlers in a forked process, such as a DataLoader's: only the job itself may queue it again."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _one_line(error: BaseException) -> str:
    known = find_input_error(error)
    if known is not None:
        return str(known)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
