"""New processes of Python at the price of a fork, as `tests.commands.client` has commands.

multiprocessing's ``spawn`` and `subprocess.Popen` begin a new Python, which then imports all that its work needs. Here
a process that has the libraries loaded and has run nothing else forks in its place: with the words, environment,
folder, signals and files that the new one would have, and with the same parent. Whoever has other values of what
libraries read when they are imported gets a new Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

READ_AT_IMPORT = ("CUDA", "KMP", "LANG", "LC_", "MKL", "MPL", "OMP", "OPENBLAS", "PYTHON", "TORCH")
# scikit-learn and torch set these themselves when tests import them, before or after the server starts
SET_BY_LIBRARIES = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR")
LATER = ("TORCHELASTIC", "TORCH_NCCL")  # what a rank reads when it begins, and not when it imports torch
HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_DEATH_SIGNAL, _SUBREAPER = 1, 36  # options of prctl(2)
_HIGH = 400  # received files wait here for their own numbers

# where multiprocessing and Popen begin a process, in one that is a fork, too
_spawn = getattr(util.spawnv_passfds, "replaced", util.spawnv_passfds)
_fork_exec: Callable[..., int] = getattr(subprocess, "_fork_exec", None)
_fork_exec = getattr(_fork_exec, "replaced", _fork_exec)
_turn = threading.Lock()


def imported(env: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment libraries read when they are imported."""
    unseen = {"PYTHONPATH", *SET_BY_LIBRARIES}
    if env.get("OPENBLAS_NUM_THREADS") == env.get("OMP_NUM_THREADS"):  # without it, it takes the other
        unseen.add("OPENBLAS_NUM_THREADS")
    return {
        name: value
        for name, value in env.items()
        if name.startswith(READ_AT_IMPORT) and not name.startswith(LATER) and name not in unseen
    }


def new_address() -> str:
    """Return an address of a socket that no file stands for."""
    return f"seqinv-tests-{os.getpid()}-{uuid.uuid4().hex}"


def listen(address: str) -> socket.socket:
    """Return a socket that waits for requests."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{address}")
    listener.listen(64)
    return listener


@contextlib.contextmanager
def spawning(address: str, environment: Mapping[str, str]) -> Iterator[None]:
    """Have what listens at an address fork, in the place of new Pythons of this process.

    Args:
        address: see `listen`.
        environment: that of the one that listens.
    """
    before = util.spawnv_passfds, subprocess._fork_exec
    spawn_by(address, environment)
    try:
        yield
    finally:
        util.spawnv_passfds, subprocess._fork_exec = before


def spawn_by(address: str, environment: Mapping[str, str]) -> None:
    """From now on do so, see `spawning`."""
    known = imported(environment)

    def spawnv_passfds(path: bytes, args: Sequence[str | bytes], passfds: Sequence[int]) -> int:
        words = [os.fsdecode(word) for word in args[1:]]
        if words[-1] != "--multiprocessing-fork" or not _is_plain(words) or imported(os.environ) != known:
            return _spawn(path, args, passfds)
        return _request(address, words, {number: number for number in (0, 1, 2, *passfds)})

    def fork_exec(*given: Any) -> int:
        args, _, closes, kept, cwd, variables, stdin, _, _, stdout, _, stderr, _, errors, _, new_session, *rest = given
        words = [os.fsdecode(word) for word in args]
        env = {**os.environ} if variables is None else dict(_pairs(variables))
        plain = words[0] == sys.executable and _is_plain(words[1:]) and closes and not any(map(callable, rest))
        if not plain or imported(env) != known:
            return _fork_exec(*given)
        files = {number: number for number in kept if number != errors}
        files |= {number: number if one == -1 else one for number, one in enumerate((stdin, stdout, stderr))}
        more = {"env": env, "new_session": bool(new_session)}
        return _request(address, words[1:], files, **more, **({} if cwd is None else {"cwd": os.fsdecode(cwd)}))

    for ours, theirs in ((spawnv_passfds, _spawn), (fork_exec, _fork_exec)):
        ours.replaced, ours.server = theirs, (address, environment)  # type: ignore[attr-defined]
    util.spawnv_passfds, subprocess._fork_exec = spawnv_passfds, fork_exec


def stop_spawning() -> tuple[str, Mapping[str, str]] | None:
    """Begin new Pythons as such again; return address and environment of what forked in their place, if it did."""
    server: tuple[str, Mapping[str, str]] | None = getattr(getattr(subprocess, "_fork_exec", None), "server", None)
    if server is not None:
        util.spawnv_passfds, subprocess._fork_exec = _spawn, _fork_exec
    return server


def _is_plain(words: Sequence[str]) -> bool:
    """Return whether Python begins with nothing but options that a fork can take, and a module, code or a file."""
    for word in words:
        if word in ("-m", "-c") or not word.startswith("-"):
            return True
        if word not in ("-B", "-u") and not word.startswith("-W"):
            return False
    return False


def _pairs(variables: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (os.fsdecode(one).partition("=") for one in variables)]


def _request(address: str, words: Sequence[str], files: Mapping[int, int], **more: Any) -> int:
    request = {
        "words": words,
        "env": dict(os.environ),
        "cwd": os.getcwd(),  # noqa: PTH109 - as text
        "mask": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "ignored": [int(number) for number in HEEDED if signal.getsignal(number) is signal.SIG_IGN],
        "fds": list(files),
        "new_session": False,
        **more,
    }
    with _turn, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asked:
        asked.connect(f"\0{address}")
        with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 - a device
            given = [number if _is_open(number) else nothing.fileno() for number in files.values()]
            _prctl(_SUBREAPER, 1)  # the process loses its own parent at once, and becomes a child of this one
            try:
                socket.send_fds(asked, [json.dumps(request).encode()], given)
                answer = asked.recv(100)
            finally:
                _prctl(_SUBREAPER, 0)
    return int(answer)


def answer(listener: socket.socket) -> dict[str, Any] | None:
    """Fork for the next request; return it in the new process alone."""
    asked, _ = listener.accept()
    with asked:
        content, fds, _, _ = socket.recv_fds(asked, 1 << 20, 250)
        if not content:
            return None
        read, write = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                os.close(read)
                os.close(write)
                listener.close()
                return {**json.loads(content), "received": fds}
            os.write(write, b"%d" % pid)
            os._exit(0)
        os.close(write)
        pid = int(os.read(read, 100))
        os.close(read)
        os.waitpid(between, 0)
        for number in fds:
            os.close(number)
        asked.sendall(b"%d" % pid)
    return None


def be_spawned(request: Mapping[str, Any]) -> None:
    """Give this process the session, files and signals of the one that was requested, see `answer`."""
    if request["new_session"]:
        os.setsid()
    moved = [fcntl.fcntl(number, fcntl.F_DUPFD, _HIGH) for number in request["received"]]
    for number in request["received"]:
        os.close(number)
    for number, target in zip(moved, request["fds"], strict=True):
        os.dup2(number, target)
        os.close(number)
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else signal.SIG_DFL)
    if signal.SIGINT not in request["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["mask"])


def fork_for_spawning(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Leave a copy of this process behind that forks in the place of new Pythons.

    Returns a request in such a fork, None in this process.

    The copy ends with this process.

    Args:
        environment: in which this process has its libraries loaded.
    """
    address = new_address()
    parent = os.getpid()
    listener = listen(address)
    if os.fork():
        listener.close()
        spawn_by(address, environment)
        return None
    _close_all_but(listener.fileno())
    return next_request(listener, parent)


def next_request(listener: socket.socket, parent: int) -> dict[str, Any]:
    """Fork for every request, until the parent of this process ends; return a request in a fork."""
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    for number in HEEDED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, HEEDED)  # what comes to a fork too early waits until it heeds them
    while True:
        request = answer(listener)
        if request is not None:
            return request


def _close_all_but(kept: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number > 2 and number != kept:
            with contextlib.suppress(OSError):
                os.close(number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
