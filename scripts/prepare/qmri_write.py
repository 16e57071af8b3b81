"""Writing prepared quantitative maps as a BIDS derivative."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.layout import MAPS, SUFFIXES, read_sidecar
from scripts.data.units import NAMES, UNITS
from scripts.io.write import write_json, write_nifti, write_text
from scripts.prepare.qmri_scan import PreparedScan
from scripts.prepare.qmri_sources import Scan
from scripts.prepare.records import hidden

__all__ = ["MASK_SUFFIX", "describe_source", "write_participants", "write_scan"]

MASK_SUFFIX = "desc-brain_mask"

_STEPS = {"pd": 0.005, "r1": 1e-4, "r2star": 0.005, "mtsat": 1e-4, "r2": 0.002}
"""Value of one step of the 65535 that a map is stored in; the largest are above the limits of the maps."""

_COLUMNS = ("participant_id", "group", "source")


def write_scan(part: Path, scan: Scan, done: PreparedScan) -> list[str]:
    """Write a scan's maps, their sidecars and the brain mask into a part folder and return their final names.

    Args:
        part: see `scripts.prepare.records.part_folder`.
        scan: who was scanned.
        done: the maps.
    """
    folder = Path(scan.subject, scan.session or "", "anat").as_posix()
    stem = f"{folder}/{scan.prefix}"
    files = []
    for name in (name for name in reversed(MAPS) if name in done.maps):
        sidecar = {"Units": UNITS[name][0], "Description": NAMES[name], "SkullStripped": True, **done.origins[name]}
        stored = np.rint(done.maps[name] / np.float32(_STEPS[name])).clip(0, 65535)
        if name in ("pd", "r1"):
            stored = np.maximum(stored, done.brain)
        files += [f"{stem}_{SUFFIXES[name]}.json", f"{stem}_{SUFFIXES[name]}.nii.gz"]
        write_json(hidden(part, files[-2]), sidecar)
        write_nifti(hidden(part, files[-1]), stored.astype(np.uint16), done.affine, step=_STEPS[name])
    mask = [f"{stem}_{MASK_SUFFIX}.json", f"{stem}_{MASK_SUFFIX}.nii.gz"]
    write_json(hidden(part, mask[0]), done.origins["brain"])
    write_nifti(hidden(part, mask[1]), done.brain.astype(np.uint8), done.affine)
    return [*mask, *files]


def describe_source(root: Path, source: Path, version: int) -> None:
    """Write ``dataset_description.json``, with what the source's own tells of name, licence and DOI."""
    found = read_sidecar(source / "dataset_description.nii")
    origin = {"URL": source.resolve().name} | {key: found[key] for key in ("DOI", "Version") if key in found}
    if "DatasetDOI" in found:
        origin["DOI"] = str(found["DatasetDOI"])
    content: dict[str, Any] = {
        "Name": f"Quantitative maps of {found.get('Name', source.resolve().name)}, prepared",
        "BIDSVersion": "1.9.0",
        "DatasetType": "derivative",
        **({"License": found["License"]} if "License" in found else {}),
        "GeneratedBy": [
            {
                "Name": "seqinv prepare qmri",
                "Version": str(version),
                "Description": "Units, brain mask, failed fits and missing maps, as the sidecars tell",
            }
        ],
        "SourceDatasets": [origin],
    }
    write_json(root / "dataset_description.json", content)


def write_participants(root: Path, source: Path, subjects: Mapping[str, Sequence[Scan]]) -> None:
    """Write ``participants.tsv``: group and source folder of each subject; earlier rows of others stay.

    Args:
        root: the prepared folder.
        source: folder that was read.
        subjects: those that are finished, and their scans.
    """
    table = root / "participants.tsv"
    rows: dict[str, dict[str, str]] = {}
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as lines:
            rows = {row["participant_id"]: row for row in csv.DictReader(lines, delimiter="\t")}
    rows = {name: row for name, row in rows.items() if (root / name).is_dir()}
    for name, scans in subjects.items():
        folders = ", ".join(dict.fromkeys(scan.folder.relative_to(source).as_posix() for scan in scans))
        group = next((scan.group for scan in scans if scan.group), "n/a")
        rows[name] = {"participant_id": name, "group": group, "source": folders}
    lines_out = ["\t".join(_COLUMNS), *("\t".join(rows[name][key] for key in _COLUMNS) for name in sorted(rows))]
    write_text(table, "\n".join(lines_out) + "\n")
