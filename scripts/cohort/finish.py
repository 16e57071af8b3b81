"""What every command that makes a cohort ends with: the quality page, and what to type next."""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from scripts.qc import write_qc
from scripts.tasks import DatasetKind, bundles_on

__all__ = ["finish_cohort"]


def finish_cohort(path: Path, layout: DatasetKind, what: str, *, jobs: int | None = None) -> None:
    """Write the quality page of a cohort and say where things are and what to do with them.

    Args:
        path: the cohort.
        layout: how it is laid out: ixi, arc or qmri.
        what: is in it, in a few words.
        jobs: subjects looked at side by side.
    """
    page = write_qc(path, layout, jobs=jobs)
    tqdm.write(f"Cohort: {path}  (simulated; {what}; look at it: {page})")
    for bundle in bundles_on(layout):
        tqdm.write(
            f"Next: python -m monai.bundle run --config_file bundles/{bundle}/configs/train.json --dataset_dir {path}"
        )
