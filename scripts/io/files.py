"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.errors import DiskFullError, InputError, find_system_error

__all__ = ["atomic_write", "told_if_refused"]

_CURES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "give a folder of a file system that takes larger files",
    errno.EACCES: "change the rights of its folder, or give another",
    errno.EPERM: "change the rights of its folder, or give another",
    errno.EROFS: "give a folder that can be written to",
    errno.ENOTDIR: "it, or what lies above it, is a file: give another folder",
    errno.EEXIST: "it, or what lies above it, is a file: give another folder",
    errno.EISDIR: "it is a folder: move that away",
    errno.ENOENT: "check the path, and that its disk is there",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EIO: "check the disk",
}
_LONGEST = 60  # bytes of its own name in that of an unfinished file


def atomic_write(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` make a file that appears at ``path`` whole or not at all.

    The file is written beside ``path``, as ``.part-*`` with the same ending, flushed to disk and renamed over it.

    Raises:
        InputError: the system refuses it: no room, no rights. What was there before stays.
    """
    path = Path(path)
    with told_if_refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        ending = os.fsdecode(os.fsencode(path.name)[-_LONGEST:])
        part = path.with_name(f".part-{uuid.uuid4().hex[:12]}-{ending}")
        try:
            part.touch()
            write(part)
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def told_if_refused(path: Path) -> Iterator[None]:
    """Tell in one line what the system refuses while ``path`` is written; other errors pass as they are.

    Raises:
        InputError: no room, no rights, a read-only or broken disk.
    """
    try:
        yield
    except Exception as error:
        refused = _refusal(error, path)
        if refused is None:
            raise
        raise refused from error


def _refusal(error: BaseException, path: Path) -> InputError | None:
    """Return in a line what the system refused, None if an error is another; torch hides it behind one of its own."""
    cause = find_system_error(error, _CURES)
    if cause is not None:
        if cause.errno == errno.ENOENT and not _is_about(cause.filename, path):
            return None
        kind = DiskFullError if cause.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
        why, cure = cause.strerror or cause, _CURES[cause.errno or 0]
    elif isinstance(error, RuntimeError) and any(word in str(error) for word in ("inline_container", "iostream")):
        kind, why, cure = DiskFullError, "its disk is full, or does not answer", _CURES[errno.ENOSPC]
    else:
        return None
    return kind(f"{path} cannot be written ({why}): {cure}; nothing half-written is left")


def _is_about(name: Any, path: Path) -> bool:
    if name is None:
        return True
    named = Path(os.fsdecode(name))
    return named in (path, *path.parents) or named.parent == path.parent
