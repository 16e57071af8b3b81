"""What the subject, the session and the group of maps are called, from the folders that they lie in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from scripts.data.layout import read_groups

__all__ = ["Place", "name_folder", "name_word"]

_RESULTS = ("Results", "anat", "maps")
_GROUP = re.compile(
    r"^(?:healthy|hc|controls?|volunteers?|patients?|stroke|ms|ad|mci|pd|young|old|group[-_ ]?\w+)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Place:
    """Who was scanned: ``sub-<label>``, ``ses-<label>`` or None, group or None.

    Attributes:
        subject: BIDS name.
        session: BIDS name.
        group: as the folder or ``participants.tsv`` calls it.
        base: what the names of the scan's files begin with.
        crowded: names of several scans that lie in one folder of one subject; empty where all is well.
    """

    subject: str
    session: str | None
    group: str | None
    base: str
    crowded: str = ""


def name_folder(source: Path, folder: Path, layout: str, base: str, *, alone: bool) -> Place:
    """Return who was scanned.

    BIDS names come from ``sub-`` and ``ses-`` in the file's name or, for other layouts, in its folders. Otherwise
    the folders from ``source`` to the maps, Results left out, are the subject and its session; a folder above
    them that is called as a group is (healthy, controls, patients, stroke ...), or that lies above the subject of
    published maps, is the group. Maps in ``source`` itself are named by its own name, or each by its files'.

    Args:
        source: folder that was searched.
        folder: that holds the maps.
        layout: BIDS, hMRI or masked.
        base: what the files' names have in common.
        alone: whether the folder holds one scan.
    """
    if layout == "BIDS":
        return _bids_place(folder, base)
    parts = [part for part in folder.relative_to(source).parts if part not in _RESULTS]
    named = {part[:4]: part[4:] for part in parts if part.startswith(("sub-", "ses-"))}
    if "sub-" in named:
        session = named.get("ses-")
        group = read_groups(_above(folder, f"sub-{named['sub-']}")).get(f"sub-{named['sub-']}")
        words, crowded = [named["sub-"], session or ""], not alone
    else:
        grouped = len(parts) > 1 and (layout == "masked" or _GROUP.match(parts[0]))
        group = parts.pop(0) if grouped else None
        words, crowded = [*parts[:1], "".join(parts[1:])], not alone and bool(parts)
        if not parts:
            words = [source.resolve().name if alone else base, ""]
    subject, session = name_word(words[0]) or "x", name_word(words[1])
    return Place(f"sub-{subject}", f"ses-{session}" if session else None, group, base, base if crowded else "")


def name_word(text: str) -> str:
    """Return the letters and digits of ``text``, which is all that a BIDS label may hold."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def _bids_place(folder: Path, base: str) -> Place:
    named = dict(part.split("-", 1) for part in base.split("_") if "-" in part)
    label = named["sub"]
    subject = f"sub-{name_word(label) or 'x'}"
    session = name_word(named.get("ses", ""))
    group = read_groups(_above(folder, f"sub-{label}")).get(f"sub-{label}")
    return Place(subject, f"ses-{session}" if session else None, group, base)


def _above(folder: Path, subject: str) -> Path:
    """Return the folder that holds a subject's."""
    return next((path.parent for path in (folder, *folder.parents) if path.name == subject), folder)
