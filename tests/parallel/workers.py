"""Work for processes that pytest's modules cannot be imported into."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from scripts.errors import InputError


def count(name: str, *, folder: Path) -> None:
    (folder / name).write_text(str(os.getpid()))


def stumble(name: str, *, folder: Path) -> None:
    """Do what the name says."""
    if name == "bad":
        raise InputError("bad.nii.gz is damaged: copy it again")
    if name == "bug":
        raise RuntimeError("something\nover two lines")
    if name == "full":
        raise OSError(28, "No space left on device", "/data/x.nii.gz")
    if name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    while name == "stays":
        signal.pause()
    count(name, folder=folder)


def meet_or_die(name: str, *, folder: Path) -> None:
    """Wait for the other one of ``a`` and ``b`` and let ``a`` be killed then, before ``b`` ends."""
    if name == "a":
        with (folder / "meeting").open("w"):
            os.kill(os.getpid(), signal.SIGKILL)
    elif name == "b":
        with (folder / "meeting").open() as other:
            other.read()  # until the other one is gone
    count(name, folder=folder)


def linger(name: str, *, folder: Path) -> None:
    """Say which process this is, stay, and say so if it is interrupted."""
    try:
        with (folder / "letters").open("w") as stream:
            stream.write(f"{name} {os.getpid()}\n")
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        time.sleep(0.3)  # a second Ctrl-C would cut this short
        count(name, folder=folder)
        raise


def threads(name: str, *, folder: Path) -> None:
    import torch

    (folder / name).write_text(f"{torch.get_num_threads()} {os.environ['OMP_NUM_THREADS']}")
