"""Training a bundle in several processes, one per GPU, with torchrun inside a job."""

from __future__ import annotations

import json
import runpy
import signal
import sys
import tempfile
import traceback
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.errors import DiskFullError, InputError, find_input_error, root_cause
from scripts.literals import command_word
from scripts.parallel import run_jobs, shared_threads
from scripts.processes import Processes, follow_parent

__all__ = ["run_torchrun", "torchrun_command"]


def torchrun_command(n_gpus: int, config_files: Sequence[str | Path], settings: Mapping[str, Any]) -> list[str]:
    """Return the words of the command that trains on this machine in ``n_gpus`` processes.

    Args:
        n_gpus: processes, one per GPU, or on the CPU where there is none.
        config_files: in the order in which they are merged, without ``multi_gpu_train.json``, which is looked for
            beside the first and added behind the last.
        settings: overrides; they arrive as they are, lists, dicts, bools and None among them.

    Raises:
        InputError: ``n_gpus`` is no whole number from 1 on, no config is given, or a setting cannot be typed.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n_gpus)]
    return [*torchrun, "-m", "monai.bundle", *_words(n_gpus, config_files, settings)]


def run_torchrun(n_gpus: int, config_files: Sequence[str | Path], settings: Mapping[str, Any]) -> None:
    """Do what typing `torchrun_command` would; all processes end with this one, however it ends.

    Raises:
        InputError: what `torchrun_command` or the bundle refuses, as told by one of the processes.
        RuntimeError: any other failure, in one line; the output of this process has the whole.
    """
    words = _words(n_gpus, config_files, settings)
    # in a process of its own, as torch takes over its signals
    for _, error in run_jobs([(n_gpus, words)], _run_agent, Processes(1, shared_threads(n_gpus))):
        if error is not None:
            raise error


def _words(n_gpus: int, config_files: Sequence[str | Path], settings: Mapping[str, Any]) -> list[str]:
    if not isinstance(n_gpus, int) or isinstance(n_gpus, bool) or n_gpus < 1:
        raise InputError(f"n_gpus is {n_gpus!r}: give a whole number, 1 or more")
    if not config_files:
        raise InputError("no config to train: give train.json of a bundle")
    configs = [str(path) for path in config_files]
    configs.append(str(Path(configs[0]).with_name("multi_gpu_train.json")))
    return [
        "run",
        *(f"--{key}={command_word(value, key)}" for key, value in {"config_file": configs, **settings}.items()),
    ]


def _run_agent(job: tuple[int, list[str]]) -> None:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # that of a time limit, which some clusters send to every process: only the job itself acts on it
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    n_gpus, words = job
    with tempfile.TemporaryDirectory(prefix="torchelastic_") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=n_gpus,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, _run_rank)(*words)
        except SignalException:
            raise KeyboardInterrupt from None
        except ChildFailedError as error:
            raise _first(error, Path(folder)) from None


def _run_rank(*words: str) -> None:
    """Do what ``python -m monai.bundle`` does with these words."""
    follow_parent()
    sys.argv = ["monai.bundle", *words]
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except Exception as error:
        known = find_input_error(error)
        if known is None:
            traceback.print_exception(error)
            raise root_cause(error) from None
        sys.stderr.write(f"error: {known}\n")
        raise known from None


def _first(error: Any, folder: Path) -> Exception:
    """Return in one line what a process refused; if none did, what went wrong in the one that failed first.

    A process records its error below ``folder`` before it ends. torch knows only of those that it saw fail first, and
    one that loses its connection to the refusing one may be seen before that.
    """
    known = {one.__name__: one for one in (InputError, DiskFullError)}
    for path in sorted(folder.rglob("error.json")):
        try:
            kind, _, refusal = str(json.loads(path.read_text())["message"]["message"]).partition(": ")
        except ValueError:
            continue  # it was ended while it wrote
        if kind in known:
            return known[kind](refusal)
    message = error.get_first_failure()[1].message
    text = str(message["message"] if isinstance(message, dict) else message)
    return RuntimeError(text.strip().splitlines()[0][:300])
