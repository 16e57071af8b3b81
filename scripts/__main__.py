"""Commands of the project: ``python -m scripts <command>``; each says ``--help``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import fire

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


def main() -> None:
    """Run the command line; bad input ends in one line and exit status 1."""
    try:
        check_options(sys.argv[1:])
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
