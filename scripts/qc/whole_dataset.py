"""The quality page of a whole dataset: the rows that are missing, then the page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from scripts.parallel import default_jobs
from scripts.qc.quality_page import write_page
from scripts.qc.rows import find_subjects, read_rows, write_row
from scripts.subjects import run_subjects
from scripts.tasks import DatasetKind

__all__ = ["write_qc"]

_WORTH_A_PROCESS = 6  # rows that take as long as a process takes to begin


def write_qc(root: Path, kind: DatasetKind, *, jobs: int | None = None, progress: bool = True) -> Path:
    """Return the quality page of a dataset, made after the rows that are missing or older than their files.

    Args:
        root: the dataset.
        kind: how it is laid out: ixi, arc or qmri.
        jobs: subjects looked at side by side; None takes one per core, at most 8, and fewer for few subjects.
        progress: whether to show a bar.

    Raises:
        InputError: if the disk is full or a process was killed.
    """
    done = {row.subject for row in read_rows(root, kind)}
    missing = [subject for subject in find_subjects(root, kind) if subject not in done]
    jobs = min(default_jobs(jobs), max(1, len(missing) // _WORTH_A_PROCESS))
    work = partial(_write_row, root, kind)
    failed = run_subjects(missing, work, jobs=jobs, progress=progress, what="quality")
    return write_page(root, kind, left_out=failed)


def _write_row(root: Path, kind: DatasetKind, subject: str) -> None:
    write_row(root, kind, subject)
