"""Published checksums against the files on disk, each read once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.prepare.remotes import Remote
from scripts.prepare.space import readable_size

__all__ = ["file_sums", "remember_sums", "verify", "wrong_sum"]

_CHUNK = 1 << 22


def verify(path: Path, remote: Remote, *, cache: Path | None = None, progress: bool = True) -> None:
    """Check that a file has the published checksums.

    Args:
        path: the file.
        remote: what it must be.
        cache: JSON file that remembers sums; a file of the same size and time of change is not read again.
        progress: whether to show a bar.

    Raises:
        InputError: if the file is missing or has another sum.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: add --download")
    sums = _remembered(path, cache)
    if sums is None:
        sums = file_sums(path, progress=progress)
        remember_sums(path, sums, cache)
    wrong = wrong_sum(sums, remote)
    if wrong is not None:
        raise InputError(
            f"{path} ({readable_size(path.stat().st_size)}) has {wrong}: it is cut off, damaged or another release; "
            "delete it and add --download, or take it as it is with --verify false"
        )


def file_sums(path: Path, *, progress: bool = True) -> dict[str, str]:
    """Return the MD5 and SHA-256 of a file's content, hexadecimal, in one reading."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    size = path.stat().st_size
    with (
        path.open("rb") as stream,
        tqdm(
            total=size, desc=f"checking {path.name}", unit="B", unit_scale=True, disable=not progress, leave=False
        ) as bar,
    ):
        while chunk := stream.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
            bar.update(len(chunk))
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}


def wrong_sum(sums: dict[str, str], remote: Remote) -> str | None:
    """Return what differs between the sums of a file and the published ones, None if nothing does."""
    for name, kind, published in (("SHA-256", "sha256", remote.sha256), ("MD5", "md5", remote.md5)):
        if published is not None and sums[kind] != published:
            return f"{name} {sums[kind]}, published is {published}"
    return None


def remember_sums(path: Path, sums: dict[str, str], cache: Path | None) -> None:
    """Note the sums of a file beside its size and time of change; without ``cache`` nothing is done."""
    if cache is None:
        return
    known = {**_read(cache), str(path.resolve()): {**_state(path), **sums}}
    text = json.dumps(known, indent=2, sort_keys=True) + "\n"
    atomic_write(cache, lambda part: part.write_text(text, encoding="utf-8"))


def _remembered(path: Path, cache: Path | None) -> dict[str, str] | None:
    entry = _read(cache).get(str(path.resolve())) if cache is not None else None
    if not isinstance(entry, dict) or not {"md5", "sha256"} <= entry.keys():
        return None
    if any(entry.get(key) != value for key, value in _state(path).items()):
        return None
    return {"md5": str(entry["md5"]), "sha256": str(entry["sha256"])}


def _state(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _read(cache: Path) -> dict[str, Any]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a lost memory costs one reading
    return found if isinstance(found, dict) else {}
