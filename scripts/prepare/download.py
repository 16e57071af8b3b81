"""Downloads that go on where they broke off and are not believed before their checksums fit."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tqdm import tqdm

from scripts.errors import InputError
from scripts.prepare.checksums import file_sums, remember_sums, verify, wrong_sum
from scripts.prepare.remotes import IXI, Remote, ixi_remotes
from scripts.prepare.space import readable_size, require_space
from scripts.prepare.transfer import BrokenOffError, RefusedError, notes_of, transfer

try:
    import fcntl
except ImportError:  # no locks there; the checksum finds what two downloads into one file would spoil
    fcntl = None  # type: ignore[assignment]

__all__ = ["IXI", "Remote", "fetch", "ixi_remotes", "missing_bytes", "require_space", "verify"]

_TRIES = 4


def fetch(
    remote: Remote, folder: Path, *, progress: bool = True, cache: Path | None = None, pause: float = 1.0
) -> Path:
    """Download a file and return where it lies.

    It grows as ``<name>.part`` and gets its name once its checksums fit. Broken connections are taken up again,
    a few times in a row without a new byte, then the next address is asked. A file that is there is not asked for
    again, nor read: `verify` checks it.

    Args:
        remote: the file.
        folder: to save it in; made where needed.
        progress: whether to show bars.
        cache: JSON file that remembers the sums, for `verify`.
        pause: seconds before the second try; doubled before each further one.

    Raises:
        InputError: if no address gives the file, its sum is wrong, the disk is full, or another process is at it.
    """
    path, part = folder / remote.name, folder / f"{remote.name}.part"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(part), _room(part):
        reasons = []
        for url in remote.urls:
            try:
                _fetch_from(url, part, remote, progress=progress, pause=pause)
                sums = _checked(part, remote, progress=progress)
            except RefusedError as reason:
                reasons.append(f"{url}: {reason}")
                continue
            part.replace(path)
            notes_of(part).unlink(missing_ok=True)
            remember_sums(path, sums, cache)
            return path
    raise InputError(_failure(remote, part, reasons))


def missing_bytes(remotes: Iterable[Remote], folder: Path) -> int:
    """Return how many bytes downloads into a folder still bring, at most: what has come already does not count."""
    needed = 0
    for remote in remotes:
        part = folder / f"{remote.name}.part"
        if not (folder / remote.name).is_file():
            needed += max(0, (remote.size or 0) - (part.stat().st_size if part.is_file() else 0))
    return needed


def _fetch_from(url: str, part: Path, remote: Remote, *, progress: bool, pause: float) -> None:
    """Bring the whole file from one address; raises `RefusedError` if it will not come."""
    pinned = remote.md5 is not None or remote.sha256 is not None
    tries, most = 0, part.stat().st_size
    while True:
        try:
            transfer(url, part, pinned=pinned, progress=progress)
            return
        except BrokenOffError as reason:
            size = part.stat().st_size
            tries = 0 if size > most else tries + 1
            most = max(most, size)
            if tries >= _TRIES:
                raise RefusedError(str(reason)) from reason
            wait = max(pause * 2.0**tries, reason.wait)
            tqdm.write(f"{remote.name}: {reason} after {readable_size(size)}; on again in {wait:.0f} s")
            time.sleep(wait)


def _checked(part: Path, remote: Remote, *, progress: bool) -> dict[str, str]:
    sums = file_sums(part, progress=progress)
    wrong = wrong_sum(sums, remote)
    if wrong is not None:
        part.write_bytes(b"")
        notes_of(part).unlink(missing_ok=True)
        raise RefusedError(f"what came has {wrong}, and was deleted")
    return sums


def _failure(remote: Remote, part: Path, reasons: list[str]) -> str:
    size = part.stat().st_size if part.is_file() else 0
    if not size:
        part.unlink(missing_ok=True)
    kept = f"{readable_size(size)} lie in {part}, the same command goes on from there" if size else "try again later"
    return f"{remote.name} did not come ({'; '.join(reasons)}): {kept}, or name another server with --mirror"


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """Hold ``part``, made where needed, against other downloads into it."""
    with part.open("ab") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"{part} is being downloaded by another process: wait for it, or end it") from error
        yield stream


@contextmanager
def _room(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(f"{part} fills the disk: free some space, the same command goes on from there") from error
