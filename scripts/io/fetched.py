"""Whether a file is there, with its content."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import InputError
from scripts.pointers import ANNEX, is_annexed, pointer_of

__all__ = ["check_fetched"]


def check_fetched(path: Path, cure: str = "correct the path or restore the file") -> None:
    """Make sure that a file is there, with its content and not with a pointer to it.

    Args:
        path: the file.
        cure: what to do where there is none.

    Raises:
        InputError: there is no file, or one that stands for content which git-annex or Git LFS has elsewhere.
    """
    if not path.is_file():
        if path.is_symlink():
            target = path.readlink()
            if is_annexed(target.as_posix()):
                raise InputError(_unfetched(path, *ANNEX))
            raise InputError(f"{path} is a link to {target}, where there is no file: {cure}")
        raise InputError(f"{path} does not exist: {cure}" if not path.exists() else f"{path} is no file: {cure}")
    try:
        found = pointer_of(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its rights") from error
    if found is not None:
        raise InputError(_unfetched(path, *found))


def _unfetched(path: Path, name: str, command: str) -> str:
    typed = f"{command} {path}" if (name, command) == ANNEX else command
    return f"{path} is a pointer of {name}, without the content: type `{typed}`"
