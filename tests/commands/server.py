"""Becomes one command after another: a process that has the libraries loaded forks, and the child runs the command.

Started by `tests.commands.client` as ``python server.py SOCKET LISTENER STORE``. It has run no thread, and holds no
module of ``scripts``: the child imports those of its own working directory, as Python does. Asked at the listener it
forks for multiprocessing, see `spawning`; each command has a copy of it for that.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import time
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("numpy", "torch", "scipy.ndimage", "scipy.stats", "pandas", "sklearn.linear_model", "skimage.metrics", "nibabel"),
    *(
        "SimpleITK",
        "torch._dynamo",
        "torch._dynamo.guards",
        "ignite.engine",
        "ignite.metrics",
        "ignite.handlers",
        "monai",
        "monai.bundle",
        "monai.data",
    ),
    *("monai.engines", "monai.handlers", "monai.inferers", "monai.losses", "monai.networks.nets", "monai.transforms"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "matplotlib.figure", "matplotlib.backends.backend_agg"),
    *("fire", "jinja2", "einops", "tqdm", "safetensors.torch", "nilearn"),
)


def load(store: str) -> None:
    """Import the libraries; refuse a state that a child could not share."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("ready_store").use_ready_store(Path(store))
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    threads = [name for name in threads if name != "jemalloc_bg_thd"]  # pyarrow's, which minds a fork
    assert threading.active_count() == len(threads) == 1, threads
    assert not [name for name in sys.modules if name.split(".")[0] == "scripts"]
    gc.collect()
    gc.freeze()


def next_command(control: socket.socket, listener: socket.socket) -> dict[str, Any]:
    """Fork for every request, and tell how the children ended; return in the child alone."""
    poller, children = select.poll(), {}
    poller.register(control, select.POLLIN)
    poller.register(listener, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            if fd in children:
                poller.unregister(fd)
                tell_end(fd, *children.pop(fd))
                continue
            request = spawning.answer(listener) if fd == listener.fileno() else begin_command(control, poller, children)
            if request is not None:
                control.close()
                listener.close()
                for other, (_, report) in children.items():
                    os.close(other)
                    report.close()
                return request


def begin_command(control: socket.socket, poller: Any, children: dict[int, Any]) -> dict[str, Any] | None:
    """Fork for a command; return what was asked for in the child alone. End when nobody asks any more."""
    content, fds, _, _ = socket.recv_fds(control, 1 << 20, 4)
    if not content:
        for ended in children:
            signal.pidfd_send_signal(ended, signal.SIGKILL)
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        return {**json.loads(content), "fds": fds}
    report = socket.socket(fileno=fds[3])
    report.sendall(b"%d\n" % pid)
    for given in fds[:3]:
        os.close(given)
    watched = os.pidfd_open(pid)
    children[watched] = (pid, report)
    poller.register(watched, select.POLLIN)
    return None


def tell_end(watched: int, pid: int, report: socket.socket) -> None:
    """Tell how a command ended."""
    os.close(watched)
    with report, contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        report.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def take_over(request: dict[str, Any]) -> None:
    """Make this process what Python is when it starts with these words, in this folder and environment."""
    if request["new_session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for standard, given in enumerate(request["fds"][:3]):
        os.dup2(given, standard)
    for given in request["fds"]:
        os.close(given)
    begin(request)
    sys.path[:0] = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.modules["__main__"] = types.ModuleType("__main__")


def begin(request: Mapping[str, Any]) -> None:
    """Take over folder and environment, with random numbers of its own."""
    os.chdir(request["cwd"])
    sys.modules["multiprocessing.process"].ORIGINAL_DIR = request["cwd"]  # where its own new processes begin
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].seed()
    importlib.invalidate_caches()


def be_spawned(request: Mapping[str, Any]) -> None:
    """Run what multiprocessing's spawn begins a new Python with."""
    options, code = spawning.be_spawned(request, begin)
    run([*(word for option in options for word in (option[:2], option[2:]) if word), "-c", code, *sys.argv[1:]])


def run(words: list[str]) -> None:
    """Do what ``python WORDS`` does, with ``-B`` and ``-W ACTION`` among its options."""
    while words[0] in ("-B", "-W"):
        if words.pop(0) == "-B":
            sys.dont_write_bytecode = True
        else:
            sys.warnoptions.append(words.pop(0))
            warnings.simplefilter(sys.warnoptions[-1])
    kind = words.pop(0)
    if kind == "-m":
        sys.path.insert(0, str(Path.cwd()))
        sys.argv = ["-m", *words[1:]]
        runpy._run_module_as_main(words[0])
        return
    names = sys.modules["__main__"].__dict__
    if kind == "-c":
        sys.path.insert(0, "")
        sys.argv = ["-c", *words[1:]]
        code = compile(words[0], "<string>", "exec")
    else:
        sys.path.insert(0, str(Path(kind).resolve().parent))
        sys.argv = [kind, *words]
        names["__file__"] = kind
        code = compile(Path(kind).read_bytes(), kind, "exec")
    exec(code, names)


def leave(code: object) -> None:
    """Exit as Python does, but for taking its modules apart one by one, which takes a second."""
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


def leave_interrupted() -> None:
    """End by SIGINT as Python does, which forgets it where a library's end runs code."""
    sys.excepthook(*sys.exc_info())
    with contextlib.suppress(BaseException):
        threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import spawning  # of this folder

    load(sys.argv[3])
    sys.path.pop(0)
    environment = dict(os.environ)
    ours = sys.modules["__main__"]  # whose names are these, and must not die
    command: dict[str, Any] | None = next_command(*(socket.socket(fileno=int(word)) for word in sys.argv[1:3]))
    try:
        while command is not None:  # a command, and what it, or the tests, spawned; each leaves a copy for its own
            current, command = command, spawning.fork_for_spawning(environment)
        if "received" in current:
            be_spawned(current)
        else:
            take_over(current)
            run(current["words"])
    except KeyboardInterrupt:
        leave_interrupted()
    except SystemExit as ended:  # any other exception goes the interpreter's own way
        leave(ended.code)
    leave(0)
