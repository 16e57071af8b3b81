"""What the launchers' tests have done in other processes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.errors import InputError


@dataclass(frozen=True)
class Item:
    name: str
    folder: Path
    task: str = "note"
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.name


def do(item: Item) -> None:
    """Leave begin, end, process and settings of this call in files, or go wrong in the way that the item asks for."""
    began = time.time()
    TASKS[item.task](item)
    time.sleep(item.seconds)
    said = [os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_CPUS_PER_TASK")]
    (item.folder / f"{item.name}.txt").write_text("|".join([str(began), str(time.time()), *said]))


def refuse(item: Item) -> None:
    try:
        raise KeyError("inside")
    except KeyError as error:
        raise RuntimeError("config component failed\nover many\nlines") from InputError(
            f"{item.name} lacks a file: {error}"
        )


def break_down(item: Item) -> None:
    raise ArithmeticError("first line\nsecond line")


def be_killed(item: Item) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def be_preempted(item: Item) -> None:
    """Be told by the cluster to make room, the first time."""
    turns = item.folder / f"{item.name}-turns"
    with turns.open("a") as stream:
        stream.write("x")
    if turns.stat().st_size == 1:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(60)


def linger(item: Item) -> None:
    """Say which process this is, and how it was interrupted, and stay for a minute."""
    (item.folder / f"{item.name}.pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (item.folder / f"{item.name}.interrupted").write_text("")
        raise


TASKS = {
    "note": lambda item: None,
    "refuse": refuse,
    "break": break_down,
    "killed": be_killed,
    "preempted": be_preempted,
    "linger": linger,
}
