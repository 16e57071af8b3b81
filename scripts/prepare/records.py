"""What a prepared folder remembers: its settings, and for each finished subject what it was made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.cohort.make import PROVENANCE as EMBEDDED
from scripts.errors import InputError
from scripts.io.write import write_json, write_text
from scripts.qc import write_row
from scripts.tasks import DatasetKind

__all__ = [
    "PROVENANCE",
    "Record",
    "claim_output",
    "finish_subject",
    "hidden",
    "is_finished",
    "part_folder",
    "read_record",
    "remove_part",
    "remove_subject",
]

PROVENANCE = "prepare.json"
"""File at the root of every prepared folder: what it was made with."""

_RECORDS = ".prepared"
_PART = ".part-"


@dataclass(frozen=True)
class Record:
    """A finished subject.

    Attributes:
        inputs: name -> size [bytes] of each source file.
        files: what was written, relative to the folder, in the order in which it appeared.
        notes: what a user should look at in the subject.
        about: how it was made.
        measures: name -> number, for the quality page.
    """

    inputs: dict[str, int]
    files: list[str]
    notes: list[str] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    measures: dict[str, float] = field(default_factory=dict)


def claim_output(out: str | Path, source: str | Path, settings: Mapping[str, Any]) -> Path:
    """Make ``out`` ours, or refuse it; remove what an interrupted run left half-written.

    Args:
        out: folder to write to, new, empty, or of an earlier run with the same settings.
        source: folder that is read; must exist and hold ``out`` nowhere. If it is an embedded cohort, so is ``out``.
        settings: what the bytes of a subject depend on.

    Raises:
        InputError: if ``source`` is no folder, ``out`` lies inside it or is it, holds something else, or was
            made with other settings.
    """
    root, source = Path(out), Path(source)
    if not source.is_dir():
        raise InputError(f"source {source} is no folder: give the one that holds the data with --source")
    if root.resolve() == source.resolve() or source.resolve() in root.resolve().parents:
        raise InputError(f"{root} lies inside the source {source}: choose another --out, what is read stays untouched")
    blocking = next((path for path in (root, *root.parents) if path.exists()), root)
    if blocking.exists() and not blocking.is_dir():
        raise InputError(f"{blocking} is a file: name a folder with --out")
    record = root / PROVENANCE
    if not record.is_file():
        if root.is_dir() and any(not path.name.startswith(_PART) for path in root.iterdir()):
            raise InputError(f"{root} holds other files: name an empty or new folder with --out")
        root.mkdir(parents=True, exist_ok=True)
        write_json(record, dict(settings))
    found = _read_json(record)
    if found != json.loads(json.dumps(dict(settings))):
        other = ", ".join(f"{key} {found.get(key)}" for key in settings if found.get(key) != settings[key])
        raise InputError(f"{root} was prepared with {other or 'other settings'}: use these, or another --out")
    if (source / EMBEDDED).is_file() and not (root / EMBEDDED).is_file():
        write_text(root / EMBEDDED, (source / EMBEDDED).read_text(encoding="utf-8"))
    for leftover in root.glob(f"{_PART}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    return root


def part_folder(root: Path, subject: str) -> Path:
    """Return an empty folder for the files of a subject that is being made; its name begins with a dot."""
    remove_part(root, subject)
    folder = root / f"{_PART}{subject}"
    folder.mkdir()
    return folder


def remove_part(root: Path, subject: str) -> None:
    """Remove what is left of a subject that was not finished."""
    shutil.rmtree(root / f"{_PART}{subject}", ignore_errors=True)


def read_record(root: Path, subject: str) -> Record | None:
    """Return what was written of a finished subject, None if it is not finished."""
    path = _record_path(root, subject)
    if not path.is_file():
        return None
    return Record(**_read_json(path))


def is_finished(root: Path, subject: str, inputs: Mapping[str, int]) -> bool:
    """Tell whether a subject was made of these very inputs and its files are still there."""
    record = read_record(root, subject)
    return (
        record is not None and record.inputs == dict(inputs) and all((root / name).is_file() for name in record.files)
    )


def finish_subject(root: Path, layout: DatasetKind, subject: str, part: Path, record: Record) -> None:
    """Move a subject's files from its part folder into place, in the order of the record, which is written last.

    Before it, the subject's row of the quality page is made.

    Files of an earlier record of the subject that are no longer made are removed first.

    Args:
        root: the prepared folder.
        layout: ixi, arc or qmri.
        subject: name of the subject.
        part: result of `part_folder`; holds the files under the names that they get below ``root``, each file's
            own name preceded by a dot, so that no search finds them there.
        record: what is known about the subject.
    """
    remove_subject(root, subject, keep=record.files)
    tops = {Path(name).parts[0] for name in record.files}
    if tops == {subject}:  # a folder of its own: in one move
        for name in record.files:
            hidden(part, name).replace(part / name)
        shutil.rmtree(root / subject, ignore_errors=True)
        (part / subject).rename(root / subject)
    else:
        for name in record.files:
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            hidden(part, name).replace(target)
    shutil.rmtree(part)
    write_row(root, layout, subject, notes=record.notes, measures=record.measures)
    path = _record_path(root, subject)
    path.parent.mkdir(exist_ok=True)
    write_json(path, asdict(record))


def hidden(part: Path, name: str) -> Path:
    """Return where a file lies in a part folder until it is finished; its folder is made."""
    path = part / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}")


def remove_subject(root: Path, subject: str, *, keep: Sequence[str] = ()) -> None:
    """Forget a finished subject and remove its files but those to keep."""
    earlier = read_record(root, subject)
    if earlier is None:
        return
    _record_path(root, subject).unlink()
    for name in reversed(earlier.files):
        if name not in keep:
            (root / name).unlink(missing_ok=True)


def _record_path(root: Path, subject: str) -> Path:
    return root / _RECORDS / f"{subject}.json"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable: delete it, and what it tells is made again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no settings: delete it, and what it tells is made again")
    return found
