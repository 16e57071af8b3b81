"""Jobs in processes of this machine through submitit, each with its share of cores and GPUs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from scripts.errors import InputError
from scripts.experiment.launch.options import LaunchOptions
from scripts.experiment.launch.work import KILLED, TURNS, Launcher, Work, failure
from scripts.parallel import shared_threads
from scripts.processes import interrupts_held

__all__ = ["LocalJobs", "Machine"]

T = TypeVar("T")

_NO_LIMIT = 60 * 24 * 365


class Machine:
    """This machine, divided among jobs that run at once.

    Attributes:
        slots: for each of them, its variables ``OMP_NUM_THREADS`` and ``CUDA_VISIBLE_DEVICES``.
        minutes: time limit of a job [min].

    Raises:
        InputError: more GPUs than there are.
    """

    def __init__(self, options: LaunchOptions) -> None:
        devices = _devices()
        gpus = min(1, len(devices)) if options.gpus is None else int(options.gpus)
        if gpus > len(devices):
            raise InputError(f"gpus is {gpus} and this machine has {len(devices)}: give fewer, or --launcher slurm")
        jobs = int(options.jobs or max(1, len(devices) // max(1, gpus)))
        cores = int(options.cpus or shared_threads(jobs))
        self.minutes = int(options.minutes or _NO_LIMIT)
        self.slots = []
        for slot in range(jobs):
            # more jobs than GPUs share them
            mine = [devices[(slot * gpus + k) % len(devices)] for k in range(gpus)]
            threads = max(1, cores // max(1, gpus))
            self.slots.append({"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ",".join(mine)})


class LocalJobs:
    """Jobs of submitit on this machine: a team for `scripts.parallel.run_jobs`.

    When it is stopped, jobs that still run are interrupted as by Ctrl-C, and may tidy up.

    Args:
        submitit: the module.
        machine: how many jobs at once, and what each gets.
        launcher: with which the jobs end; the folder of its lock gets the logs.
    """

    def __init__(self, submitit: Any, machine: Machine, launcher: Launcher) -> None:
        self.size = len(machine.slots)
        self.launcher = launcher
        self.free = list(machine.slots)
        self.begun: list[Any] = []
        self.executor = submitit.AutoExecutor(folder=launcher.lock.parent, cluster="local", local_max_num_timeout=TURNS)
        self.executor.update_parameters(timeout_min=machine.minutes)
        self.waiters = ThreadPoolExecutor(self.size)

    def submit(self, work: Callable[[T], object], item: T) -> Future[None]:
        """Begin a job."""
        slot = self.free.pop(0)
        # submitit's own process ignores Ctrl-C: it would kill the job a second later
        with interrupts_held():
            job = self.executor.submit(Work(pickle.dumps((work, item)), slot, self.launcher.lock))
            self.begun.append(job)
            return self.waiters.submit(self._wait, job, slot)

    def stop(self) -> None:
        """Interrupt what still runs, and wait for it."""
        if any(not job.done() for job in self.begun):
            self.launcher.interrupt()
        self.waiters.shutdown()

    def _wait(self, job: Any, slot: dict[str, str]) -> None:
        job._process.wait()
        self.free.append(slot)
        error = failure(job, KILLED)
        if error is not None:
            raise error


def _devices() -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device.strip() for device in chosen.split(",") if device.strip() not in ("", "-1")]
    import torch

    return [str(device) for device in range(torch.cuda.device_count())]
