"""Commands of the project: ``python -m scripts <command>``; each says ``--help``."""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import fire
from fire.parser import DefaultParseValue

from scripts.commands import COMMANDS
from scripts.errors import InputError, find_input_error, system_refusal


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


# what fire keeps at a function would be shown as a command of its own in its help
fire.decorators.FIRE_METADATA = "__fire_metadata__"


def keep_words(commands: Mapping[str, Any]) -> None:
    """Let parameters that are text be what was typed: fire would take a folder 501 or None for a number or nothing."""
    for command in commands.values():
        if isinstance(command, dict):
            keep_words(command)
            continue
        hints = inspect.get_annotations(command, eval_str=True)
        parameters = inspect.signature(command).parameters
        parsers = {name: _parser(name, hints.get(name)) for name in parameters}
        fire.decorators.SetParseFns(**parsers)(command)
        if any(one.kind is one.VAR_POSITIONAL and parsers[name] is str for name, one in parameters.items()):
            fire.decorators.SetParseFn(str)(command)  # those have no name


def _parser(name: str, hint: Any) -> Callable[[str], Any]:
    """Return what reads the words of a parameter: text stays text, and numbers have to be such."""
    kinds = set(get_args(hint) or (hint,))
    if str in kinds and kinds <= {str, type(None)}:
        return str
    if not kinds or not kinds <= {int, float, type(None)}:
        return DefaultParseValue

    def number(word: str) -> Any:
        value = DefaultParseValue(word)
        if type(value) not in kinds and not (type(value) is int and float in kinds):
            kind = "number" if float in kinds else "whole number"
            raise InputError(f"--{name} {word}: give a {kind}")
        return value

    return number


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
        told = str(cause) if cause is not None else system_refusal(error)
        if told is None:
            raise
        sys.exit(f"error: {told}")


if __name__ == "__main__":
    main()
