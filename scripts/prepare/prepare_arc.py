"""ARC (OpenNeuro ds004884), from the download to what the bundle reads: the images of one session on its T2w."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from scripts.data.arc import MODALITIES
from scripts.io.write import write_json, write_text
from scripts.parallel import default_jobs
from scripts.prepare.arc_subject import find_sessions, make_subject
from scripts.prepare.datalist import tell_datalists, write_datalists
from scripts.prepare.openneuro import fetch_arc
from scripts.prepare.preparation import Summary, prepare_subjects, print_summary, training
from scripts.prepare.records import claim_output, is_finished
from scripts.prepare.space import require_space
from scripts.switches import is_on
from scripts.tasks import bundles_on

__all__ = ["EXPECTED_COUNTS", "prepare_arc"]

_VERSION = 1
_PICTURES = 200_000  # bytes a subject

EXPECTED_COUNTS = {"T2w": (159, 22, 47), "T1w": (142, 20, 41), "FLAIR": (59, 8, 18)}
"""Subjects for training, validation and test of the whole dataset (paper, section 4.1)."""


def prepare_arc(source: str, out: str, *, download: bool | str = False, jobs: int | None = None) -> Summary:
    """Prepare ARC for the bundle arc_lesion and say what was done; the command ``prepare arc``.

    Of each subject the session with the lesion mask is taken: its T2w and mask as they are, its T1w and FLAIR
    registered rigidly to the T2w. Subjects appear whole; the same command goes on where it stopped and makes what
    is new or changed.

    Args:
        source: root of the BIDS dataset, with ``derivatives/lesion_masks``.
        out: folder for the result, a BIDS dataset.
        download: fetch what ``source`` lacks of version 1.0.2 into it first (2.4 GB).
        jobs: subjects made at once; default: one per core, at most 8.

    Raises:
        InputError: for folders that do not fit, or too little space; before any work.
    """
    started = time.monotonic()
    default_jobs(jobs)
    folder = Path(source)
    if is_on(download, "download"):
        folder.mkdir(parents=True, exist_ok=True)
    root = claim_output(out, folder, {"dataset": "arc", "version": _VERSION})
    if is_on(download, "download"):
        fetch_arc(folder)
    sessions = find_sessions(folder)
    tasks = {name: session.inputs() for name, session in sessions.items()}
    missing = [name for name, inputs in tasks.items() if not is_finished(root, name, inputs)]
    require_space(root, sum(sum(tasks[name].values()) + _PICTURES for name in missing), "the images and masks")
    images = ", ".join(f"{sum(bool(s.images.get(m)) for s in sessions.values())} {m}" for m in MODALITIES)
    tqdm.write(f"ARC in {folder}: {len(sessions)} subjects with a lesion mask ({images}); into {root}")
    unfetched = {f"{name} {kind}": why for name, session in sessions.items() for kind, why in session.unfetched.items()}
    summary = prepare_subjects(
        root,
        "arc",
        tasks,
        partial(make_subject, root=root, source=folder, sessions=sessions),
        left_out=unfetched,
        jobs=jobs,
    )
    _describe(root, folder)
    counts = write_datalists(root, "arc")
    tell_datalists(root, counts, EXPECTED_COUNTS)
    print_summary(summary, started, [training(bundle, root) for bundle in bundles_on("arc")] if counts else [])
    return summary


def _describe(root: Path, source: Path) -> None:
    """Write the files at the root of the dataset."""
    write_json(
        root / "dataset_description.json",
        {
            "Name": "Aphasia Recovery Cohort (ARC): sessions with a lesion mask, registered to their T2w",
            "BIDSVersion": "1.6.0",
            "DatasetType": "derivative",
            "License": "CC0",
            "GeneratedBy": [{"Name": "seqinv prepare arc", "Version": str(_VERSION)}],
            "SourceDatasets": [{"DOI": "doi:10.18112/openneuro.ds004884.v1.0.2"}],
        },
    )
    table = source / "participants.tsv"
    if not table.is_file():
        return
    with table.open(encoding="utf-8-sig", newline="") as lines:
        rows: Sequence[Mapping[str, str]] = list(csv.DictReader(lines, delimiter="\t"))
    kept = [row for row in rows if (root / str(row.get("participant_id"))).is_dir()]
    if kept:
        lines_out = ["\t".join(kept[0]), *("\t".join(str(value) for value in row.values()) for row in kept)]
        write_text(root / "participants.tsv", "\n".join(lines_out) + "\n")
