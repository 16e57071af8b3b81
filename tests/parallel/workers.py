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
    count(name, folder=folder)


def wait(name: str, *, folder: Path) -> None:
    count(name, folder=folder)
    time.sleep(60)
