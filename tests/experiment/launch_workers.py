"""What the launchers' tests have done in other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.errors import InputError

# torch reads them when it is imported, and so does this module
SETTINGS = [os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_CPUS_PER_TASK")]


@dataclass(frozen=True)
class Item:
    name: str
    folder: Path
    task: str = "note"
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.name


def do(item: Item) -> None:
    """Leave begin, end and settings of this call in a file, or go wrong in the way that the item asks for."""
    began = time.time()
    TASKS[item.task](item)
    time.sleep(item.seconds)
    (item.folder / f"{item.name}.txt").write_text("|".join([str(began), str(time.time()), *SETTINGS]))


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
    """Be told by the cluster to make room, the first time, and a forked process of ours before us."""
    if _turn(item) == 1:
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
        time.sleep(0.2)
        os.kill(child.pid or 0, signal.SIGUSR2)
        child.join(0.5)
        (item.folder / f"{item.name}-child").write_text("stayed" if child.is_alive() else f"left with {child.exitcode}")
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(60)


def be_slow_once(item: Item) -> None:
    """Take longer than a minute, the first time."""
    if _turn(item) == 1:
        time.sleep(90)


def linger(item: Item) -> None:
    """Say which process this is, and how it was interrupted, and stay for a minute."""
    (item.folder / f"{item.name}.pid").write_text(str(os.getpid()))
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        (item.folder / f"{item.name}.interrupted").write_text("")
        raise


def train_on_two(item: Item) -> None:
    """Train in two processes with the settings in a file."""
    from scripts.experiment.launch.torchrun import run_torchrun, torchrun_command

    settings = json.loads((item.folder / f"{item.name}.json").read_text())
    run_torchrun(torchrun_command(2, ["bundles/pretrain_seqinv/configs/train.json"], settings))


TASKS = {
    "note": lambda item: None,
    "refuse": refuse,
    "break": break_down,
    "killed": be_killed,
    "preempted": be_preempted,
    "long, then short": be_slow_once,
    "linger": linger,
    "train": train_on_two,
}


def _turn(item: Item) -> int:
    """Return how often this item was begun."""
    turns = item.folder / f"{item.name}-turns"
    with turns.open("a") as stream:
        stream.write("x")
    return turns.stat().st_size
