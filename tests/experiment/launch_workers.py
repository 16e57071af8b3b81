"""What the launchers' tests have done in other processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from pathlib import Path

from scripts.errors import InputError
from tests.events import post

# torch reads them when it is imported, and so does this module
SETTINGS = [os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_CPUS_PER_TASK")]


@dataclass(frozen=True)
class Item:
    name: str
    folder: Path
    task: str = "note"

    def __str__(self) -> str:
        return self.name


def do(item: Item) -> None:
    """Leave begin, end and settings of this call in a file, or go wrong in the way that the item asks for."""
    began = time.time()
    TASKS[item.task](item)
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
        context = multiprocessing.get_context("fork")
        ours, theirs = context.Pipe()
        child = context.Process(target=_echo, args=(theirs,), daemon=True)
        child.start()
        theirs.close()
        stayed = _answers(ours)
        os.kill(child.pid or 0, signal.SIGUSR2)
        stayed = stayed and _answers(ours)
        (item.folder / f"{item.name}-child").write_text("stayed" if stayed else "left")
        os.kill(os.getpid(), signal.SIGUSR2)
        signal.pause()


def be_slow_once(item: Item) -> None:
    """Take longer than a minute, the first time."""
    if _turn(item) == 1:
        time.sleep(90)


def linger(item: Item) -> None:
    """Say which process this is, stay, and say how it was interrupted, which takes longer than a second."""
    try:
        post(item.folder / "letters", f"{item.name} {os.getpid()}")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        time.sleep(1.2)  # submitit's own patience is a second
        (item.folder / f"{item.name}.interrupted").write_text("")
        raise


def meet(item: Item) -> None:
    """Wait for the other one of two items: opening a named pipe lasts until its other end is open."""
    with (item.folder / "meeting").open("r" if item.name == "a" else "w"):
        pass


def train_on_two(item: Item) -> None:
    """Train in two processes with the settings in a file."""
    from scripts.experiment.launch.torchrun import run_torchrun

    settings = json.loads((item.folder / f"{item.name}.json").read_text())
    run_torchrun(2, ["bundles/pretrain_seqinv/configs/train.json"], settings)


def be_rank(task: str, folder: str) -> None:
    """Be one of two processes of torchrun: the first waits for the other, which does what the task says."""
    import torch.distributed as dist

    (Path(folder) / f"rank-{os.environ['RANK']}").write_text(str(os.getpid()))
    dist.init_process_group("gloo")
    post(Path(folder) / "letters", f"{dist.get_rank()} {os.getpid()}")
    if dist.get_rank() == 1:
        RANK_TASKS[task](Item("its bundle", Path(folder)))
    dist.barrier()


def refuse_and_end_late(item: Item) -> None:
    """Refuse, and end only when the other process has, of the connection that it lost."""
    import torch.distributed as dist

    other = Path("/proc") / (item.folder / "rank-0").read_text() / "stat"

    def end() -> None:
        dist.destroy_process_group()
        while other.exists() and other.read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.05)

    Finalize(None, end, exitpriority=0)
    refuse(item)


def sleep(item: Item) -> None:
    while True:
        time.sleep(3600)


RANK_TASKS = {"refuse": refuse, "refuse_and_end_late": refuse_and_end_late, "sleep": sleep}

TASKS = {
    "note": lambda item: None,
    "refuse": refuse,
    "break": break_down,
    "killed": be_killed,
    "preempted": be_preempted,
    "long, then short": be_slow_once,
    "linger": linger,
    "meet": meet,
    "train": train_on_two,
}


def _echo(connection: Connection) -> None:
    while True:
        connection.send(connection.recv())


def _answers(connection: Connection) -> bool:
    try:
        connection.send("there?")
        return bool(connection.recv())
    except (EOFError, ConnectionError):
        return False


def _turn(item: Item) -> int:
    """Return how often this item was begun."""
    turns = item.folder / f"{item.name}-turns"
    with turns.open("a") as stream:
        stream.write("x")
    return turns.stat().st_size
