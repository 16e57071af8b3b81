"""One request for a file over HTTP, which goes on after the bytes that an earlier one brought."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import requests
from tqdm import tqdm

from scripts.io.files import atomic_write
from scripts.prepare.space import require_space

__all__ = ["BrokenOffError", "RefusedError", "notes_of", "transfer"]

_CHUNK = 1 << 14  # bytes; a piece that is cut is lost
_TIMEOUT = (20.0, 60.0)  # s, to connect and between two pieces
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0  # s


class RefusedError(Exception):
    """An address that will not give the file, however often it is asked."""


class BrokenOffError(Exception):
    """A transfer that broke off and may go on; ``wait``: seconds that the server asks for."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class _Notes:
    """What is known of the bytes in a part file: where from, of which version, of how many [bytes]."""

    url: str = ""
    version: str = ""
    total: int | None = None


def transfer(url: str, part: Path, *, pinned: bool, progress: bool = True) -> None:
    """Bring the rest of a file into ``part``.

    Bytes that ``part`` holds are kept if the server still has the same version (``ETag`` or ``Last-Modified``) and
    can begin in the middle; else the file begins anew. Notes on them lie beside it, see `notes_of`.

    Args:
        url: address of the file.
        part: file that grows.
        pinned: whether a checksum will tell if bytes of two addresses fit together.
        progress: whether to show a bar with speed and time left.

    Raises:
        RefusedError: if the address does not give the file.
        BrokenOffError: if the transfer ended early.
        InputError: if the rest does not fit on the disk.
    """
    notes = _read_notes(part)
    have = part.stat().st_size if part.is_file() and notes.url else 0
    if notes.url != url and not pinned:
        have = 0
    if have and have == notes.total:
        return
    with _in_few_words(), requests.get(url, headers=_headers(url, have, notes), stream=True, timeout=_TIMEOUT) as reply:
        total, start = _begin(reply, part, have, notes)
        if start and start == total:
            return
        require_space(part.parent, (total or 0) - start, f"the rest of {part.name}")
        with part.open("ab" if start else "wb") as stream:
            text = json.dumps(asdict(_Notes(url, _version(reply), total)), indent=2) + "\n"
            atomic_write(notes_of(part), lambda path: path.write_text(text, encoding="utf-8"))
            _receive(reply, stream, start, total, name=part.name.removesuffix(".part"), progress=progress)
    if total is not None and part.stat().st_size != total:
        raise BrokenOffError("the connection ended early")


def notes_of(part: Path) -> Path:
    """Return where the notes on a part file lie."""
    return part.with_name(f"{part.name}.json")


def _headers(url: str, have: int, notes: _Notes) -> dict[str, str]:
    headers = {"Accept-Encoding": "identity"}  # a range counts the bytes of the file, not of its compressed form
    if have:
        headers["Range"] = f"bytes={have}-"
        if notes.url == url and notes.version:
            headers["If-Range"] = notes.version
    return headers


def _begin(reply: requests.Response, part: Path, have: int, notes: _Notes) -> tuple[int | None, int]:
    """Return the size of the whole file and the place of the first byte that comes."""
    if reply.status_code in _LATER:
        raise BrokenOffError(f"{reply.status_code} {reply.reason}", _wait(reply))
    if reply.status_code not in (200, 206, 416):
        raise RefusedError(f"{reply.status_code} {reply.reason}")
    unit, _, span = reply.headers.get("Content-Range", "").partition(" ")
    place, _, whole = span.partition("/")
    total = int(whole) if unit == "bytes" and whole.isdigit() else None
    if reply.status_code == 416 and have and total == have:
        return total, have
    if reply.status_code == 206 and place.startswith(f"{have}-") and total in (notes.total, None):
        return notes.total, have
    if reply.status_code != 200:
        part.write_bytes(b"")
        raise BrokenOffError("the file has changed on the server")
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        raise RefusedError("a web page comes instead of the file")
    length = reply.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None, 0


def _receive(
    reply: requests.Response, stream: IO[bytes], start: int, total: int | None, *, name: str, progress: bool
) -> None:
    with tqdm(
        total=total, initial=start, desc=name, unit="B", unit_scale=True, disable=not progress, smoothing=0.1
    ) as bar:
        for piece in reply.iter_content(_CHUNK):
            stream.write(piece)
            bar.update(len(piece))


@contextmanager
def _in_few_words() -> Iterator[None]:
    """Turn what goes wrong on the way into `RefusedError` or `BrokenOffError`, in a few words."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise RefusedError("its certificate is not trusted") from error
    except requests.exceptions.Timeout as error:
        raise BrokenOffError("no answer in time") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise BrokenOffError("the connection was cut") from error
    except requests.exceptions.ConnectionError as error:
        raise BrokenOffError("the connection failed") from error
    except requests.exceptions.RequestException as error:
        raise RefusedError(f"{type(error).__name__}") from error


def _version(reply: requests.Response) -> str:
    tag = reply.headers.get("ETag", "")
    # a weak tag promises the same meaning, not the same bytes
    return tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified", "")


def _wait(reply: requests.Response) -> float:
    seconds = reply.headers.get("Retry-After", "")
    return min(float(seconds), _LONGEST_WAIT) if seconds.isdigit() else 0.0


def _read_notes(part: Path) -> _Notes:
    try:
        return _Notes(**json.loads(notes_of(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return _Notes()
