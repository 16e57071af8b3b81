"""Waiting in tests for what happens in other processes: woken by it, with limits that only what hangs reaches."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT = 300.0  # seconds


class Letterbox:
    """A named pipe into which other processes write lines with `post`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.handle = os.open(path, os.O_RDWR)
        self.text = b""

    def lines(self, count: int, sender: subprocess.Popen[Any]) -> list[str]:
        """Return the next lines, sorted; fails when the process that they come from or through ends before."""
        with handles([sender.pid]) as (end,):
            while self.text.count(b"\n") < count:
                ready = select.select([self.handle, end], [], [], LIMIT)[0]
                assert ready, "nothing was written"
                assert self.handle in ready, f"the process ended before, with status {sender.wait()}"
                self.text += os.read(self.handle, 4096)
        *found, self.text = self.text.split(b"\n", count)
        return sorted(line.decode() for line in found)

    def rest(self) -> list[str]:
        """Return the lines that are there now, which were not read before."""
        while select.select([self.handle], [], [], 0)[0]:
            self.text += os.read(self.handle, 4096)
        found, self.text = self.text, b""
        return found.decode().splitlines()


def post(path: Path, line: str) -> None:
    """Write a line into the pipe of a `Letterbox`."""
    with path.open("w") as stream:
        stream.write(f"{line}\n")


def offspring(pid: int) -> set[int]:
    """Return the processes below one, all generations."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split()
    parents = dict(zip(map(int, listed[::2]), map(int, listed[1::2]), strict=True))
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more


@contextmanager
def handles(pids: Iterable[int]) -> Iterator[list[int]]:
    """Open handles of running processes, for `all_end`."""
    opened: list[int] = []
    try:
        for pid in pids:
            opened.append(os.pidfd_open(pid))
        yield opened
    finally:
        for handle in opened:
            os.close(handle)


def all_end(opened: Iterable[int]) -> bool:
    """Return whether all processes end; returns as soon as they did."""
    until = time.monotonic() + LIMIT
    return all(select.select([handle], [], [], max(0.0, until - time.monotonic()))[0] for handle in opened)
