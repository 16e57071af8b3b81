"""Training a bundle in several processes, one per GPU, with torchrun inside a job."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue

from scripts.errors import InputError

__all__ = ["command_word", "run_torchrun", "torchrun_command"]

_MODULE = "torch.distributed.run"
_GRACE = 60  # seconds for stopped processes to end; torchrun kills them itself after 30


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
    if not isinstance(n_gpus, int) or isinstance(n_gpus, bool) or n_gpus < 1:
        raise InputError(f"n_gpus is {n_gpus!r}: give a whole number, 1 or more")
    if not config_files:
        raise InputError("no config to train: give train.json of a bundle")
    configs = [str(path) for path in config_files]
    configs.append(str(Path(configs[0]).with_name("multi_gpu_train.json")))
    words = [f"--{key}={command_word(value, key)}" for key, value in {"config_file": configs, **settings}.items()]
    torchrun = [sys.executable, "-m", _MODULE, "--standalone", "--nproc_per_node", str(n_gpus)]
    return [*torchrun, "-m", "monai.bundle", "run", *words]


def command_word(value: Any, name: str = "the value") -> str:
    """Return the word that ``python -m monai.bundle`` reads as ``value``: text stays bare where it can.

    Raises:
        InputError: for a value that no word stands for, such as an object or an infinite number.
    """
    plain = _plain(value)
    for word in (plain, repr(plain)):
        if isinstance(word, str) and _same(DefaultParseValue(word), plain):
            return word
    raise InputError(f"{name}={value!r} cannot be given on a command line: use text, numbers, lists and dicts of them")


def run_torchrun(command: Sequence[str]) -> None:
    """Run what `torchrun_command` returned; its processes end with this one, however it ends.

    Raises:
        RuntimeError: the training failed; what it said stands in the output of this process.
    """
    context = multiprocessing.get_context("spawn")
    agent = context.Process(target=_run_agent, args=(list(command[3:]),), name="torchrun")
    agent.start()
    try:
        agent.join()
    finally:
        if agent.is_alive():
            agent.terminate()
            agent.join(_GRACE)
            agent.kill()
    if agent.exitcode:
        raise RuntimeError(f"torchrun ended with status {agent.exitcode}")


def _run_agent(arguments: list[str]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    from torch.distributed.run import main

    main(arguments)


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    """Ask torchrun, which does not watch its parent, to stop when that ends: it stops its own processes then."""
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _same(found: Any, value: Any) -> bool:
    """Return whether two values are equal in value and kind: 1, 1.0 and True are not the same setting."""
    return bool(found == value) and repr(found) == repr(value)
