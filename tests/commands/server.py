"""Becomes one command after another: a process that has the libraries loaded forks, and the child runs the command.

Started by `tests.commands.client` as ``python server.py LISTENER PARENT STORE``. It has run no thread, and holds no
module of ``scripts``: the child imports those of its own working directory, as Python does. How it is asked stands in
`spawning`; each command has a copy of it for its own processes.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import os
import random
import runpy
import signal
import socket
import sys
import threading
import time
import types
import warnings
import weakref
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
    *("fire", "jinja2", "einops", "tqdm", "safetensors.torch", "nilearn", "tabulate"),
)
BEGINS_NO_PYTHON = ["-m", "monai.bundle"]  # its data loaders fork
_COLLAPSE = 25  # advice of madvise(2)


class _Inspect(types.ModuleType):
    """The module of that name, whose stack is of frames without sources."""

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    @staticmethod
    def stack() -> list[tuple[types.FrameType]]:
        frame, found = sys._getframe(1), []
        while frame is not None:
            found.append((frame,))
            frame = frame.f_back
        return found


def load(store: str) -> None:
    """Import the libraries; refuse a state that a child could not share."""
    for name in LIBRARIES:
        importlib.import_module(name)
    ready = importlib.import_module("ready_store")
    ready.use_ready_store(Path(store) if Path(store).exists() else ready.make_ready_store(Path(store)))
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    threads = [name for name in threads if name != "jemalloc_bg_thd"]  # pyarrow's, which minds a fork
    assert threading.active_count() == len(threads) == 1, threads
    assert not [name for name in sys.modules if name.split(".")[0] == "scripts"]
    # fire looks for the names around its call, and would look through the sources of all modules
    sys.modules["fire.core"].inspect = _Inspect("inspect")  # type: ignore[attr-defined]
    for finalizer in list(weakref.finalize._registry):  # of torch's operators: they end with the process
        finalizer.atexit = False
    gc.collect()
    gc.freeze()
    use_huge_pages()


def use_huge_pages() -> None:
    """Have the kernel put what this process holds into pages of 2 MB, where it can: a fork copies a table of them."""
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *_ = line.split()
        if inode == "0" and rights.startswith("rw"):
            first, last = (int(number, 16) for number in span.split("-"))
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _COLLAPSE)


def begin(request: Mapping[str, Any]) -> None:
    """Take over folder, environment and words, with random numbers of its own."""
    os.chdir(request["cwd"])
    sys.modules["multiprocessing.process"].ORIGINAL_DIR = request["cwd"]  # where its own new processes begin
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].seed()
    importlib.invalidate_caches()
    sys.path[:0] = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    sys.modules["__main__"] = types.ModuleType("__main__")
    run(request["words"])


def run(words: list[str]) -> None:
    """Do what ``python WORDS`` does, with ``-B``, ``-u`` and ``-W ACTION`` among its options."""
    while words[0][:2] in ("-B", "-u", "-W"):
        option = words.pop(0)
        if option == "-B":
            sys.dont_write_bytecode = True
        elif option == "-u":
            sys.stdout, sys.stderr = (unbuffered(stream) for stream in (sys.stdout, sys.stderr))
        else:
            sys.warnoptions.append(option[2:] or words.pop(0))
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


def unbuffered(stream: Any) -> io.TextIOWrapper:
    """Return a stream that writes at once to the same file."""
    raw = io.FileIO(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(raw, stream.encoding, stream.errors, write_through=True)  # type: ignore[arg-type]


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
    listener, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    command: dict[str, Any] | None = spawning.next_request(listener, parent)
    try:
        while command is not None:  # a command, and what it, or the tests, spawned; each leaves a copy for its own
            current, command = command, None
            if current["words"][:2] != BEGINS_NO_PYTHON:
                command = spawning.fork_for_spawning(environment)
        spawning.be_spawned(current)
        begin(current)
    except KeyboardInterrupt:
        leave_interrupted()
    except SystemExit as ended:  # any other exception goes the interpreter's own way
        leave(ended.code)
    leave(0)
