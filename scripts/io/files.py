"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.errors import DiskFullError, InputError

__all__ = ["atomic_write", "told_if_refused"]

_CURES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "give a folder of a file system that takes larger files",
    errno.EACCES: "change the rights of its folder, or give another",
    errno.EPERM: "change the rights of its folder, or give another",
    errno.EROFS: "give a folder that can be written to",
    errno.ENOTDIR: "what lies above it is a file: give another folder",
    errno.EEXIST: "what lies above it is a file: give another folder",
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
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=f"-{ending}", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
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
    except OSError as error:
        cure = _CURES.get(error.errno or 0)
        if cure is None:
            raise
        kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else InputError
        raise kind(f"{path} cannot be written ({error.strerror}): {cure}; nothing half-written is left") from error
