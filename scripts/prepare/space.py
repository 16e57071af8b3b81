"""Room on the disk, asked for before work begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.errors import InputError

__all__ = ["readable_size", "require_space"]


def require_space(folder: Path, needed: int, what: str) -> None:
    """Check that ``needed`` more bytes fit on the disk of a folder, which need not exist yet.

    Args:
        folder: that will be written to; its nearest existing parent tells the disk.
        needed: [bytes] on top of what lies there already.
        what: they are for, as a noun.

    Raises:
        InputError: if fewer bytes are free.
    """
    if needed <= 0:
        return
    place = folder.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise InputError(
            f"{folder} needs about {readable_size(needed)} for {what}, {readable_size(free)} are free: "
            "free some, or choose a folder on another disk"
        )


def readable_size(size: int) -> str:
    """Return a number of bytes as people say it: 812 bytes, 3.2 MB, 25.1 GB."""
    if size < 1_000_000:
        return f"{size} bytes"
    return f"{size / 1e9:.1f} GB" if size >= 100_000_000 else f"{size / 1e6:.1f} MB"
