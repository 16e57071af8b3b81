"""Files that stand for content which was never fetched: those of git-annex and of Git LFS."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ANNEX", "is_annexed", "pointer_of"]

ANNEX = ("git-annex", "datalad get")
"""The one of the two, and the command that fetches what it has."""
_LFS = ("Git LFS", "git lfs pull")
_ANNEX_FOLDER = "/annex/objects/"
_LFS_BEGIN = b"version https://git-lfs.github.com/spec/"
_LONGEST = 1024  # bytes of a pointer


def pointer_of(path: Path) -> tuple[str, str] | None:
    """Return what has the content of a file, and the command that fetches it; None for a file with content of its own.

    Larger files are not opened.

    Raises:
        OSError: the file cannot be read.
    """
    if path.stat().st_size > _LONGEST:
        return None
    first = path.read_bytes().split(b"\n")[0]
    if first.startswith(_LFS_BEGIN):
        return _LFS
    return ANNEX if b"\0" not in first and is_annexed(first.decode("latin-1")) else None


def is_annexed(target: str) -> bool:
    """Return whether a path lies where git-annex keeps content."""
    return _ANNEX_FOLDER in target
