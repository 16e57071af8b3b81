"""Stages of jobs as Slurm arrays, each after the one before, and watching them without Slurm's accounts."""

from __future__ import annotations

import getpass
import os
import pickle
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from scripts.errors import InputError
from scripts.experiment.launch.options import LaunchOptions
from scripts.experiment.launch.work import KILLED, TURNS, JobError, Work, failure

__all__ = ["array_id", "ended", "submit_arrays"]

T = TypeVar("T")


def submit_arrays(
    submitit: Any,
    stages: Sequence[tuple[str, Sequence[T]]],
    work: Callable[[T], None],
    folder: Path,
    options: LaunchOptions,
    name: str,
) -> list[list[Any]]:
    """Hand one array per stage to Slurm and return the jobs of each; an array waits for the end of the one before.

    It waits for the end, not for success: one failed pretraining stops only what needs it.

    Args:
        submitit: the module.
        stages: (name, items), none empty.
        work: called with an item.
        folder: for logs; all nodes have to see it.
        options: what each job may use.
        name: of the jobs, before that of the stage.

    Raises:
        InputError: no Slurm here, jobs of these names are still queued, or Slurm refuses ours; none of them is left in
            the queue then.
    """
    arrays: list[list[Any]] = []
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=TURNS)
    except RuntimeError as error:
        raise InputError("no Slurm here (srun was not found): log in to the cluster, or --launcher local") from error
    _refuse_twice([f"{name}-{stage}" for stage, _ in stages])
    for stage, items in stages:
        executor.update_parameters(name=f"{name}-{stage}", **options.on_slurm())
        if arrays:
            executor.update_parameters(slurm_dependency=f"afterany:{array_id(arrays[-1])}")
        calls = [Work(pickle.dumps((work, item)), {}, None) for item in items]
        try:
            with _outside_jobs(submitit):
                arrays.append(executor.submit_array(calls))
        except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
            for jobs in arrays:
                subprocess.run(["scancel", array_id(jobs)], check=False)
            said = " ".join(str(error).split()) or "sbatch failed"
            raise InputError(f"Slurm refused the jobs ({said}): check --partition, --account and the sizes") from error
    return arrays


def ended(items: Sequence[T], jobs: Sequence[Any]) -> Iterator[tuple[T, JobError | None]]:
    """Yield each item with the error of its job, or None, as that ends.

    The end is told by its result or by its absence from the queue: where Slurm keeps no accounts, ``sacct`` does not
    know of it. This ends when none of the jobs is in the queue any more.
    """
    left, gone, began = dict(enumerate(jobs)), set[int](), time.monotonic()
    while left:
        queued = _queue("--array", "--format=%i")
        for index, job in list(left.items()):
            if job.paths.result_pickle.exists() or index in gone:
                del left[index]
                yield items[index], failure(job, f"{KILLED}, or was cancelled, or ran out of time")
            elif queued is not None and job.job_id not in queued:
                gone.add(index)  # its result may still be on its way through the file system
        if left:
            time.sleep(min(30.0, max(2.0, (time.monotonic() - began) / 20)))
    # a process that has left its result takes a while to end, and the same command would be refused meanwhile
    while {job.job_id for job in jobs} & (_queue("--array", "--format=%i") or set()):
        time.sleep(1.0)


def array_id(jobs: Sequence[Any]) -> str:
    """Return Slurm's number of an array of jobs."""
    return str(jobs[0].job_id).split("_")[0]


@contextmanager
def _outside_jobs(submitit: Any) -> Iterator[None]:
    """Hide the variables of a Slurm job that this may be in, which would be taken for ours; what the user set stays."""
    his = {name: value for name, value in os.environ.items() if name == "SLURM_CONF" or name.startswith("SBATCH_")}
    with submitit.helpers.clean_env():
        os.environ.update(his)
        yield


def _refuse_twice(names: Sequence[str]) -> None:
    queued = _queue("--format=%F", f"--name={','.join(names)}") if names else None
    if queued:
        numbers = " ".join(sorted(queued))
        raise InputError(f"Slurm still has jobs of this grid: wait for them (squeue --me), or scancel {numbers} first")


def _queue(*options: str) -> set[str] | None:
    """Return the numbers of our jobs in the queue, None if Slurm does not answer."""
    command = ["squeue", "--noheader", f"--user={getpass.getuser()}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(done.stdout.split()) if done.returncode == 0 else None
