"""MLflow's server on this machine, for as long as its pages are looked at."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen

from scripts.errors import InputError

__all__ = ["is_server", "mlflow_server"]

_HOST = "127.0.0.1"
_PATIENCE = 120.0  # seconds until the server must answer; it takes some fifteen on two quiet cores


def is_server(uri: str) -> bool:
    """Return whether an MLflow store is a server, not a file."""
    return uri.startswith(("http://", "https://"))


@contextmanager
def mlflow_server(uri: str, *, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes] | None]]:
    """Serve an MLflow store on this machine alone; give its address and its process, and stop it afterwards.

    A store that is a server already is not served again: its address is given, and no process.

    Args:
        uri: MLflow store.
        port: of the server; None takes a free one.

    Raises:
        InputError: the port is taken, or the server does not start.
    """
    if is_server(uri):
        yield uri.rstrip("/"), None
        return
    port = _free_port(port)
    # the server's jobs (of evaluations that are not ours) would take a gigabyte and half a minute
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--host", _HOST]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "1"],
        env={**os.environ, **quiet},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is ours, and the server's workers end with it
    )
    server = f"http://{_HOST}:{port}"
    try:
        _wait(server, process)
        yield server, process
    finally:
        _stop(process)


def _free_port(wanted: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted or 0))
        except OSError:
            raise InputError(f"port {wanted} is taken: give another by --port, or none for a free one") from None
        return int(probe.getsockname()[1])


def _wait(server: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if process.poll() is not None:
            raise InputError(f"MLflow's server ended at once, status {process.returncode}: try `mlflow server` by hand")
        try:
            with urlopen(f"{server}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise InputError(f"MLflow's server gave no answer in {_PATIENCE:.0f} s: try `mlflow server` by hand")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, which are of its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=10)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return
