"""Command lines at the price of a fork: `Commands` runs ``python ...`` in a child of a process that has all loaded.

What a user types runs as he types it (arguments, folder, environment, output, exit status, signals), without the
seconds in which every new process imports torch, monai and mlflow. Where the system cannot do that, or the environment
has other values of what libraries read when they are imported, it is a new process.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from tests.commands.spawning import listen, new_address, spawning

SERVER = Path(__file__).with_name("server.py")
CAN_FORK = sys.platform == "linux" and hasattr(subprocess, "_fork_exec")


class Commands:
    """Starts commands, by forks of a server that is started when one is first asked for.

    Args:
        store: the ready MLflow store that commands copy, see `tests.commands.ready_store`.
        running: address and environment of a server that runs already, see `tests.commands.spawning`.
    """

    def __init__(self, store: Path, running: tuple[str, Mapping[str, str]] | None = None) -> None:
        self.store = store
        self._server: subprocess.Popen[bytes] | None = None
        self._inherited = running is not None
        # that of the tests and not of the first command, which may be the one that has another
        mine = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        plain = {name: value for name, value in mine.items() if name != "PYTHONPATH"}
        self._address, self._environment = running or (new_address(), plain)

    def start(
        self,
        words: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdout: IO[Any] | int = subprocess.DEVNULL,
        stderr: IO[Any] | int = subprocess.DEVNULL,
        new_session: bool = False,
    ) -> subprocess.Popen[Any]:
        """Start ``[sys.executable, ...]``, or any other command, without input.

        The environment is that of the tests, without GPU, unless another is given.
        """
        with self.spawning():
            return subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": ""} if env is None else env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=new_session,
            )

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
        """End the server."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._server = None

    @contextlib.contextmanager
    def spawning(self) -> Iterator[None]:
        """Have the new Pythons that this process begins, also by multiprocessing, be forks of the server."""
        if not CAN_FORK:
            yield
            return
        self._serve()
        with spawning(self._address, self._environment), pytest.MonkeyPatch.context() as patch:
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
            yield

    def _serve(self) -> None:
        """Start the server, if it does not run yet."""
        if self._inherited or self._server is not None:
            return
        with listen(self._address) as listener:
            self._server = subprocess.Popen(
                [sys.executable, str(SERVER), str(listener.fileno()), str(os.getpid()), str(self.store)],
                cwd="/",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )
