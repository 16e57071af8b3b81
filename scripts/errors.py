"""Mistakes in what a user gave us, told in one line instead of a traceback."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Container, Iterator
from types import TracebackType

__all__ = [
    "SOME_FAILED",
    "DiskFullError",
    "InputError",
    "chain",
    "find_input_error",
    "find_system_error",
    "is_memory_refused",
    "printable",
    "report_input_errors",
    "root_cause",
    "system_refusal",
]


_REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EISDIR),
    errno.EEXIST,
)

SOME_FAILED = 3
"""Exit status of a command that worked through many inputs, of which some could not be used."""


class InputError(ValueError):
    """Bad input: the message names the file or setting that is wrong and what to do about it, in one line."""

    def __init__(self, message: object) -> None:
        super().__init__(printable(message))


class DiskFullError(InputError):
    """No room is left: whatever comes next would fail, too."""


def printable(text: object) -> str:
    r"""Return text for one line of a terminal or table: what has no sign there is written as Python writes it.

    >>> printable("two\nlines"), printable("\udcff.nii")
    ('two\\nlines', '\\udcff.nii')
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(text))


def find_input_error(error: BaseException | None) -> InputError | None:
    """Return the `InputError` that caused ``error``, or None; looks through chained exceptions."""
    return next((cause for cause in chain(error) if isinstance(cause, InputError)), None)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error, what it was raised from or while, what that was, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def find_system_error(error: BaseException, numbers: Container[int]) -> OSError | None:
    """Return the error of the system that caused ``error``, or None.

    Args:
        error: looked through.
        numbers: values of ``errno`` that count.
    """
    return next((cause for cause in chain(error) if isinstance(cause, OSError) and cause.errno in numbers), None)


def root_cause(error: BaseException) -> BaseException:
    """Return the error that ``error`` was raised from in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_memory_refused(error: BaseException) -> bool:
    """Return whether the system, or a GPU, had no memory left."""
    cause = root_cause(error)
    said = str(cause).lower()
    return isinstance(cause, MemoryError) or "allocate memory" in said or "out of memory" in said


def system_refusal(error: BaseException) -> str | None:
    """Return in a line what the system refused: no room, no rights, no place to write to; None if it is not that."""
    cause = find_system_error(error, _REFUSALS)
    if cause is None:
        return None
    where = printable(cause.filename) if cause.filename else "the system says no"
    return f"{where}: {cause.strerror}: check the path, its rights, and the room there; what was finished stays"


def report_input_errors() -> None:
    """Make an uncaught `InputError`, or Ctrl-C, end the process with one line on stderr.

    MONAI wraps what a config component raises in a `RuntimeError` with a long trace; a user who mistyped a
    path needs the path. Any other exception keeps its full traceback.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = find_input_error(error)
        if isinstance(error, KeyboardInterrupt):
            typed = shlex.join(["python", "-m", "monai.bundle", *sys.argv[1:]])
            sys.stderr.write(f"\ninterrupted: what was finished stays, and the same command goes on: {typed}\n")
        elif cause is None and is_memory_refused(error):
            sys.stderr.write(
                "error: not enough memory: choose a smaller --batch_size, --patch_size or --num_workers; the last "
                "checkpoint stays\n"
            )
        elif cause is None and system_refusal(error):
            sys.stderr.write(f"error: {system_refusal(error)}\n")
        elif cause is None:
            previous(kind, error, trace)
        else:
            sys.stderr.write(f"error: {cause}\n")

    sys.excepthook = hook
