"""Training a bundle in several processes, one per GPU, with torchrun inside a job."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from fire.parser import DefaultParseValue

from scripts.errors import InputError

__all__ = ["command_word", "run_torchrun", "torchrun_command"]

_MODULE = "torch.distributed.run"
_GRACE = 60  # seconds for stopped processes to end; torchrun kills them itself after 30
# what a process of torchrun says last: the line of `report_input_errors`, or that of an exception
_ERROR = re.compile(r"^(?:\[rank\d+\]:\s*)?(?:error: (?P<refusal>.+)|(?P<error>[A-Za-z_.]*(?:Error|Exception)\b.*))")


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
        InputError: what the bundle refuses, as told by one of the processes.
        RuntimeError: any other failure, in one line; the output of this process has the whole.
    """
    heard: list[str] = []
    agent = subprocess.Popen(
        [command[0], "-m", __name__, *command[3:]],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    listener = threading.Thread(target=_pass_on, args=(agent.stderr, heard), daemon=True)
    listener.start()
    try:
        status = agent.wait()
    finally:
        _end(agent)
        listener.join(_GRACE)
    if status:
        raise _failure(status, heard)


def _end(agent: subprocess.Popen[str]) -> None:
    agent.terminate()
    try:
        agent.wait(_GRACE)
    except subprocess.TimeoutExpired:
        agent.kill()
        agent.wait()
    if agent.stdin is not None:
        agent.stdin.close()


def _pass_on(stream: IO[str], heard: list[str]) -> None:
    """Copy what the processes say to stderr and keep those lines that tell of errors."""
    with stream:
        for line in stream:
            sys.stderr.write(line)
            sys.stderr.flush()
            heard.extend([line.strip()] if _ERROR.search(line) else [])


def _failure(status: int, heard: Sequence[str]) -> Exception:
    found = [match for match in map(_ERROR.search, heard) if match]
    for match in found:
        if match["refusal"]:
            return InputError(match["refusal"])
    return RuntimeError(found[0]["error"][:300] if found else f"torchrun ended with status {status}")


def _run_agent(arguments: list[str]) -> None:
    # that of a time limit, which some clusters send to every process: only the job itself acts on it
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    from torch.distributed.run import main

    main(arguments)


def _follow_parent() -> None:
    """Ask torchrun, which does not watch its parent, to stop when that ends: it stops its own processes then."""
    os.read(0, 1)  # the parent writes nothing and holds it open
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


if __name__ == "__main__":
    _run_agent(sys.argv[1:])
