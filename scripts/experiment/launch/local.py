"""Jobs in processes of this machine through submitit, each with its share of cores and GPUs."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Collection, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from scripts.errors import InputError
from scripts.experiment.launch.options import LaunchOptions
from scripts.experiment.launch.pool import shared_threads
from scripts.experiment.launch.work import KILLED, TURNS, Work, reason

__all__ = ["Machine", "local_jobs"]

T = TypeVar("T")

_NO_LIMIT = 60 * 24 * 365
_GRACE = 5  # seconds that interrupted jobs have to say so
_OF_SLURM = ("memory_gb", "partition", "account", "constraint", "setup")


class Machine:
    """This machine, divided among jobs that run at once.

    Attributes:
        slots: for each of them, its variables ``OMP_NUM_THREADS`` and ``CUDA_VISIBLE_DEVICES``.
        minutes: time limit of a job [min].

    Raises:
        InputError: an option that only Slurm has, or more GPUs than there are.
    """

    def __init__(self, options: LaunchOptions) -> None:
        for name in _OF_SLURM:
            if getattr(options, name):
                raise InputError(f"--{name} is for --launcher slurm: leave it out on this machine")
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


def local_jobs(
    submitit: Any, items: Sequence[T], work: Callable[[T], None], machine: Machine, lock: Path
) -> Generator[tuple[int, Any, str | None], None, None]:
    """Yield each job as it ends: the index of its item, the job, and why it failed, or None.

    When the generator is closed, jobs that still run are interrupted as by Ctrl-C.

    Args:
        submitit: the module.
        items: in the order in which they are begun.
        work: called with an item.
        machine: how many at once, and what each gets.
        lock: the file of `scripts.experiment.launch.work.alive`; its folder gets the logs.
    """
    executor = submitit.AutoExecutor(folder=lock.parent, cluster="local", local_max_num_timeout=TURNS)
    executor.update_parameters(timeout_min=machine.minutes)
    waiting, free = list(enumerate(items)), list(range(len(machine.slots)))
    running: dict[int, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and free:
                (index, item), slot = waiting.pop(0), free.pop(0)
                call = Work(pickle.dumps((work, item)), machine.slots[slot], lock)
                running[slot] = index, executor.submit(call)
            time.sleep(0.2)
            for slot, (index, job) in list(running.items()):
                if job.done():
                    del running[slot]
                    free.append(slot)
                    yield index, job, reason(job, KILLED)
    finally:
        _interrupt([job for _, job in running.values()])


def _interrupt(jobs: Collection[Any]) -> None:
    for job in jobs:
        job.cancel()
    until = time.monotonic() + _GRACE
    while time.monotonic() < until and not all(job.done() for job in jobs):
        time.sleep(0.1)


def _devices() -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [device.strip() for device in chosen.split(",") if device.strip() not in ("", "-1")]
    import torch

    return [str(device) for device in range(torch.cuda.device_count())]
