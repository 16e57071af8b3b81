"""Commands of the project: ``python -m scripts <command>``; each says ``--help``."""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import fire
from fire.parser import DefaultParseValue

from scripts.commands import COMMANDS
from scripts.errors import InputError, find_input_error


def check_options(words: Sequence[str]) -> None:
    """Refuse options that a command does not have: fire would run the command first and complain afterwards.

    Raises:
        InputError: for the first unknown ``--option``.
    """
    command: Any = COMMANDS
    for word in words:
        if isinstance(command, dict):
            command = command.get(word, {})
            continue
        if word == "--":  # what follows are options of fire
            return
        option = word.removeprefix("--").split("=")[0].replace("-", "_")
        known = [*inspect.signature(command).parameters]
        if word.startswith("--") and option not in (*known, *(f"no{name}" for name in known), "help"):
            raise InputError(f"unknown option {word}: use {', '.join(f'--{name}' for name in known)}")


def keep_words(commands: Mapping[str, Any]) -> None:
    """Let parameters that are text be what was typed: fire would take a folder 501 or None for a number or nothing."""
    for command in commands.values():
        if isinstance(command, dict):
            keep_words(command)
            continue
        hints = inspect.get_annotations(command, eval_str=True)
        parameters = inspect.signature(command).parameters
        parsers = {name: str if _is_text(hints.get(name)) else DefaultParseValue for name in parameters}
        fire.decorators.SetParseFns(**parsers)(command)
        if any(one.kind is one.VAR_POSITIONAL and parsers[name] is str for name, one in parameters.items()):
            fire.decorators.SetParseFn(str)(command)  # those have no name


def _is_text(hint: Any) -> bool:
    """Return whether an annotation is of text alone: ``str`` or ``str | None``."""
    kinds = get_args(hint) or (hint,)
    return str in kinds and set(kinds) <= {str, type(None)}


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):
                stream.reconfigure(errors="backslashreplace")  # names that are no UTF-8
    try:
        check_options(sys.argv[1:])
        keep_words(COMMANDS)
        fire.Fire(COMMANDS, name="python -m scripts")
    except KeyboardInterrupt:
        sys.exit("interrupted: type the same command again; what was finished stays")
    except Exception as error:
        cause = find_input_error(error)
        if not isinstance(cause, InputError):
            raise
        sys.exit(f"error: {cause}")


if __name__ == "__main__":
    main()
