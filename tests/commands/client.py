"""Command lines at the price of a fork: `Commands` runs ``python ...`` in a child of a process that has all loaded.

What a user types runs as he types it (arguments, folder, environment, output, exit status, signals), without the
seconds in which every new process imports torch, monai and mlflow. Where the system cannot do that, or the environment
has other values of what libraries read when they are imported, it is a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from tests.commands.spawning import imported, listen, new_address, spawn_anew, spawn_by

SERVER = Path(__file__).with_name("server.py")
CAN_FORK = hasattr(os, "pidfd_open") and hasattr(socket, "send_fds")


class Command:
    """A command that runs: the part of `subprocess.Popen` that tests use."""

    def __init__(self, words: list[str], report: socket.socket) -> None:
        self.args = words
        self.returncode: int | None = None
        self._report = report
        self._lines = report.makefile("r")
        self.pid = int(self._lines.readline())

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit status."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Commands:
    """Starts commands, by forks of a server that it starts when it is first asked.

    Args:
        store: the ready MLflow store that commands copy, see `tests.commands.ready_store`.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._address = new_address()
        # that of the tests and not of the first command, which may be the one that has another
        mine = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self._environment = {name: value for name, value in mine.items() if name != "PYTHONPATH"}

    def start(
        self,
        words: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | int = subprocess.DEVNULL,
        stderr: IO[Any] | int = subprocess.DEVNULL,
        new_session: bool = False,
    ) -> Command | subprocess.Popen[Any]:
        """Start ``[sys.executable, ...]``, or any other command, without input.

        The environment is that of the tests, without GPU, unless another is given.
        """
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""} if env is None else env
        if not self._forks(words, env):
            return subprocess.Popen(
                words,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=new_session,
            )
        request = {"words": list(words[1:]), "cwd": str(cwd), "env": dict(env), "new_session": new_session}
        ours, theirs = socket.socketpair()
        with open(os.devnull, "r+b") as nothing, theirs:  # noqa: PTH123 - a device
            fds = [nothing.fileno()]
            for given in (stdout, stderr):
                fds.append(nothing.fileno() if given == subprocess.DEVNULL else _number(given))
            assert self._control is not None
            socket.send_fds(self._control, [json.dumps(request).encode()], [*fds, theirs.fileno()])
            # the server holds its end once it has told the number of the process
            return Command(list(words), ours)

    def run(
        self, words: Sequence[str], *, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return what it said."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            process = self.start(words, cwd=cwd, env=env, stdout=out, stderr=errors)
            try:
                status = process.wait(timeout)
            finally:
                process.kill()
                process.wait()
            said = []
            for stream in (out, errors):
                stream.seek(0)
                said.append(stream.read())
        return subprocess.CompletedProcess(list(words), status, *said)

    def stop(self) -> None:
        """End the server and the commands that still run."""
        if self._control is not None and self._server is not None:
            self._control.close()
            self._server.wait()
        self._control = self._server = None

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """Have the new processes that this one's multiprocessing begins be forks of the server, too."""
        if not CAN_FORK:
            yield
            return
        self._serve()
        spawn_by(self._address, self._environment)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CUDA_VISIBLE_DEVICES", "")
                yield
        finally:
            spawn_anew()

    def _forks(self, words: Sequence[str], env: Mapping[str, str]) -> bool:
        if not CAN_FORK or words[0] != sys.executable or imported(env) != imported(self._environment):
            return False
        self._serve()
        return True

    def _serve(self) -> None:
        """Start the server, if it does not run yet."""
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, listen(self._address) as listener:
                self._server = subprocess.Popen(
                    [sys.executable, str(SERVER), str(theirs.fileno()), str(listener.fileno()), str(self.store)],
                    cwd="/",
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), listener.fileno()],
                )


def _number(stream: IO[Any] | int) -> int:
    return stream if isinstance(stream, int) else stream.fileno()
