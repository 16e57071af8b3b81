"""The rows of a quality page: one JPEG and one JSON a subject, made of the subject's finished files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.tasks import DatasetKind

if TYPE_CHECKING:
    from scripts.qc.look import Look

__all__ = ["FOLDER", "Row", "find_subjects", "read_rows", "write_row"]

FOLDER = "qc"
"""Folder of the rows and the page in a dataset."""

_VERSION = 1  # bumped whenever the same files give another picture or other numbers


@dataclass(frozen=True)
class Row:
    """What the page tells of a subject, or of one session of it.

    Attributes:
        name: of the row and its files; the subject, with the session where it has several.
        subject: whose it is.
        group: site or condition, within which numbers are compared.
        images: modalities or maps that are there.
        size: width and height of the picture [pixels].
        measures: name -> number; ``"T1: grey [ml]"`` stands in line T1 and column grey [ml].
        notes: what a user should know.
        files: name -> size [bytes] of what the row was made of, relative to the dataset.
        version: of the way in which it was made.
    """

    name: str
    subject: str
    group: str
    images: list[str]
    size: tuple[int, int]
    measures: dict[str, float]
    notes: list[str]
    files: dict[str, int]
    version: int = _VERSION


def write_row(
    root: Path,
    kind: DatasetKind,
    subject: str,
    *,
    notes: Sequence[str] = (),
    measures: Mapping[str, float] | None = None,
) -> None:
    """Write ``root/qc/<row>.jpg`` and, last, ``root/qc/<row>.json`` of a subject, each whole or not at all.

    Args:
        root: the dataset.
        kind: how it is laid out: ixi, arc or qmri.
        subject: whose files are read; of several sessions, each gets a row.
        notes: what a user should know about the subject, beside what is found here.
        measures: further numbers; ``"T1w: turned [deg]"`` stands in line T1w, a name without colon by itself.

    Raises:
        InputError: if the subject has no image, or a file is unreadable.
    """
    from scripts.qc.sheet import compose, encode

    folder = root / FOLDER
    for look in _looks(root, kind, subject):
        picture = compose(look.strips)
        row = Row(
            name=look.name,
            subject=subject,
            group=look.group,
            images=list(look.images),
            size=(picture.width, picture.height),
            measures={**{name: _rounded(value) for name, value in look.measures.items()}, **(measures or {})},
            notes=[*notes, *look.notes],
            files={path.relative_to(root).as_posix(): path.stat().st_size for path in look.files},
        )
        content, text = encode(picture), json.dumps(asdict(row), indent=4) + "\n"
        atomic_write(folder / f"{look.name}.jpg", partial(Path.write_bytes, data=content))
        atomic_write(folder / f"{look.name}.json", partial(Path.write_text, data=text, encoding="utf-8"))


def read_rows(root: Path, kind: DatasetKind) -> list[Row]:
    """Return the rows, sorted by name, of subjects and files that are still there as they were."""
    present = set(find_subjects(root, kind))
    rows = [_read_row(path) for path in sorted((root / FOLDER).glob("*.json"))]
    return [row for row in rows if row is not None and row.subject in present and _is_current(root, row)]


def find_subjects(root: Path, kind: DatasetKind) -> list[str]:
    """Return the names of all subjects of a dataset, sorted; none if there are none."""
    from scripts.data.arc import arc_subjects
    from scripts.data.ixi import ixi_subjects
    from scripts.data.layout import find_root

    try:
        if kind == "ixi":
            return ixi_subjects(root)
        if kind == "arc":
            return arc_subjects(root)
        return sorted(path.name for path in find_root(root).glob("sub-*") if path.is_dir())
    except InputError:
        return []


def _looks(root: Path, kind: DatasetKind, subject: str) -> list[Look]:
    if kind == "ixi":
        from scripts.qc.look_ixi import look_at_ixi

        return [look_at_ixi(root, subject)]
    if kind == "arc":
        from scripts.qc.look_arc import look_at_arc

        return [look_at_arc(root, subject)]
    from scripts.qc.look_qmri import look_at_qmri

    return look_at_qmri(root, subject)


def _is_current(root: Path, row: Row) -> bool:
    """Tell whether a row's picture is there and what it was made of is there unchanged, by size."""
    return (
        row.version == _VERSION
        and (root / FOLDER / f"{row.name}.jpg").is_file()
        and all((root / name).is_file() and (root / name).stat().st_size == size for name, size in row.files.items())
    )


def _read_row(path: Path) -> Row | None:
    """Return a row, None where the file is not one of ours or cut off."""
    try:
        row = Row(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    # a writer that was killed leaves a whole row under another name
    return replace(row, size=(int(row.size[0]), int(row.size[1]))) if row.name == path.stem else None


def _rounded(value: float) -> float:
    """Return a number to six significant digits, so that the last bits of a sum change no file."""
    return float(f"{value:.6g}")
