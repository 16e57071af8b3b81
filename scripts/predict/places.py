"""Where results go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from scripts.errors import InputError

__all__ = ["checked_out", "common_root"]


def checked_out(out: Path, images: Sequence[str | Path]) -> Path:
    """Return the folder of the results after checking that they can be written there.

    Raises:
        InputError: they cannot, or it is a folder of the images.
    """
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {out}: cannot write below {existing}, give another folder")
    if any(Path(image).is_dir() and Path(image).resolve() == out.resolve() for image in images):
        raise InputError(f"--out {out} is the folder of the images: give another, or results would become images")
    return out


def common_root(files: Sequence[Path]) -> str | None:
    """Return a folder that all images lie below, by which those of one name are kept apart; None if none share one.

    Raises:
        InputError: two images of one folder share their name.
    """
    from scripts.io.read import stem

    places: dict[tuple[Path | None, str], Path] = {}
    names = [stem(path) for path in files]
    alike = len(set(names)) < len(names)
    for path, name in zip(files, names, strict=True):
        other = places.setdefault((path.absolute().parent if alike else None, name), path)
        if other is not path:
            raise InputError(f"{other} and {path} would be written under one name: rename one of them")
    return os.path.commonpath([path.absolute().parent for path in files]) if alike else None
