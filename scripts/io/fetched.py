"""Files that stand for content which was never fetched: those of git-annex and of Git LFS."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import InputError

__all__ = ["check_fetched"]

_ANNEX = ("/annex/objects/", ".git/annex/objects/")
_LFS = b"version https://git-lfs.github.com/spec/"
_LONGEST = 1024  # bytes of a pointer


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
            if _ANNEX[0] in target.as_posix():
                raise InputError(_annexed(path))
            raise InputError(f"{path} is a link to {target}, where there is no file: {cure}")
        raise InputError(f"{path} does not exist: {cure}" if not path.exists() else f"{path} is no file: {cure}")
    if path.stat().st_size > _LONGEST:
        return
    try:
        with path.open("rb") as file:
            start = file.read(400)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its rights") from error
    if start.startswith(_LFS):
        raise InputError(f"{path} is a pointer of Git LFS, without the content: type `git lfs pull`")
    if b"\0" not in start and any(word.encode() in start.split(b"\n")[0] for word in _ANNEX):
        raise InputError(_annexed(path))


def _annexed(path: Path) -> str:
    return f"{path} is a pointer of git-annex, without the content: type `datalad get {path}`"
