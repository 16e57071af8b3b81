"""Where quantitative maps lie in a BIDS dataset: pipelines, subjects, sessions, maps, groups."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.errors import InputError

__all__ = ["MAPS", "OPTIONAL", "SUFFIXES", "find_entries", "find_root", "read_groups", "read_people", "read_sidecar"]

SUFFIXES = {"pd": "PDmap", "r1": "R1map", "r2star": "R2starmap", "mtsat": "MTsat", "r2": "R2map"}
"""BIDS suffix of each map."""

MAPS = tuple(SUFFIXES)
OPTIONAL = ("mtsat", "r2star")
"""Maps that a dataset may lack when asked for; R2 may always be absent."""

_PATTERN = "sub-*/[ses-*/]anat/sub-*_{PDmap,R1map,R2starmap,MTsat}.nii.gz"


def find_root(dataset_dir: str | Path) -> Path:
    """Return the folder whose ``sub-*`` hold maps: ``dataset_dir`` or one of its ``derivatives``.

    Raises:
        InputError: if the folder does not exist, no map is found, or several pipelines have maps.
    """
    folder = Path(dataset_dir)
    if not folder.is_dir():
        raise InputError(f"dataset_dir {folder} does not exist: give a folder that holds {_PATTERN}")
    if _has_maps(folder):
        return folder
    pipelines = [path for path in sorted(folder.glob("derivatives/*")) if _has_maps(path)]
    if len(pipelines) > 1:
        raise InputError(f"{folder} has maps of {len(pipelines)} pipelines: set dataset_dir to one, as {pipelines[0]}")
    if not pipelines:
        raise InputError(
            f"no subjects with maps in {folder}: expected {_PATTERN} there or under derivatives/<pipeline>"
        )
    return pipelines[0]


def find_entries(folder: Path, missing: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one entry per session with maps of the subject whose folder is ``sub-*``: names and paths.

    Raises:
        InputError: if a map is missing that ``missing`` does not allow, or there are two of one kind.
    """
    anatomies = [path for path in (folder / "anat", *sorted(folder.glob("ses-*/anat"))) if path.is_dir()]
    entries = []
    for anatomy in anatomies:
        session = anatomy.parent.name if anatomy.parent != folder else None
        prefix = f"{folder.name}_{session}" if session else folder.name
        maps = {name: _find_map(anatomy, prefix, suffix) for name, suffix in SUFFIXES.items()}
        if any(maps.values()):
            _require_maps(maps, anatomy, prefix, missing)
            entries.append({"subject": folder.name, "session": session, "group": None, **maps})
    if not entries:
        _require_maps({}, anatomies[0] if anatomies else folder / "anat", folder.name, missing)
    return entries


def read_groups(root: Path) -> dict[str, str]:
    """Return the ``group`` of each participant in ``participants.tsv`` here or up to two folders above."""
    return _read_column(root, "group")


def read_people(root: Path) -> dict[str, str]:
    """Return the ``person`` of each participant that has one, likewise; subjects may be several of one person's."""
    return _read_column(root, "person")


def read_sidecar(path: str | Path) -> dict[str, Any]:
    """Return what the JSON file beside a NIfTI file tells; empty where there is none that can be read."""
    path = Path(path)
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_column(root: Path, column: str) -> dict[str, str]:
    for folder in (root, *root.parents[:2]):
        table = folder / "participants.tsv"
        if table.is_file():
            with table.open(encoding="utf-8-sig", newline="") as lines:
                rows = list(csv.DictReader(lines, delimiter="\t"))
            return {
                str(row["participant_id"]): str(row[column])
                for row in rows
                if row.get("participant_id") and row.get(column) not in (None, "", "n/a")
            }
    return {}


def _has_maps(root: Path) -> bool:
    patterns = ("sub-*/anat/sub-*_{}.nii*", "sub-*/ses-*/anat/sub-*_{}.nii*")
    found = (root.glob(pattern.format(suffix)) for suffix in SUFFIXES.values() for pattern in patterns)
    return any(next(paths, None) is not None for paths in found)


def _find_map(anatomy: Path, prefix: str, suffix: str) -> str | None:
    found = sorted(
        path
        for path in anatomy.glob(f"{prefix}_*{suffix}.nii*")
        if path.name.endswith((f"_{suffix}.nii", f"_{suffix}.nii.gz"))
    )
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1].name} are both the {suffix} of {prefix}: keep one")
    return str(found[0]) if found else None


def _require_maps(maps: dict[str, str | None], anatomy: Path, prefix: str, missing: Sequence[str]) -> None:
    for name, suffix in SUFFIXES.items():
        if maps.get(name) or name == "r2" or name in missing:
            continue
        option = f', or set missing=["{name}"] to do without' if name in OPTIONAL else ""
        raise InputError(f"{prefix} has no {suffix}: add {anatomy}/{prefix}_{suffix}.nii.gz{option}")
