"""One preparation, whatever the dataset: what is to be done, the work, the quality page, the summary."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from scripts.parallel import default_jobs
from scripts.prepare.records import is_finished, remove_part, remove_subject
from scripts.qc import write_page
from scripts.subjects import run_subjects
from scripts.tasks import DatasetKind

__all__ = ["Summary", "prepare_subjects", "print_summary", "training"]

_SHOWN = 20


@dataclass(frozen=True)
class Summary:
    """What a preparation did.

    Attributes:
        out: the prepared folder.
        subjects: how many are prepared there.
        made: how many of them in this run.
        left_out: name -> reason of those that are known to be unfit, or of no use.
        failed: name -> reason of those that went wrong.
        page: the quality page.
    """

    out: Path
    subjects: int
    made: int
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    page: Path = Path()


def prepare_subjects(
    root: Path,
    layout: DatasetKind,
    tasks: Mapping[str, Mapping[str, int]],
    work: Callable[[str], None],
    *,
    left_out: Mapping[str, str] | None = None,
    jobs: int | None = None,
    progress: bool = True,
) -> Summary:
    """Prepare the subjects that are not finished yet, then write the quality page.

    Args:
        root: the prepared folder, see `scripts.prepare.records.claim_output`.
        layout: ixi, arc or qmri.
        tasks: subject -> name and size [bytes] of each file that it is made of; a subject whose files are others
            than last time is made anew.
        work: makes one subject and ends with `scripts.prepare.records.finish_subject`; see `run_subjects`.
        left_out: name -> reason of what is not prepared.
        jobs: subjects made at once.
        progress: whether to show a bar.

    Raises:
        InputError: if the disk is full or a process was killed.
    """
    missing = [subject for subject, inputs in tasks.items() if not is_finished(root, subject, inputs)]
    done = len(tasks) - len(missing)
    if missing:
        before = f", {done} are finished" if done else ""
        tqdm.write(f"Preparing {len(missing)} subjects, {default_jobs(jobs)} at once{before}")
    for subject in missing:
        remove_subject(root, subject)
    failed = run_subjects(missing, work, jobs=jobs, progress=progress, logs=root / ".prepared")
    for subject in failed:
        remove_part(root, subject)
    reasons = {**(left_out or {}), **failed}
    page = write_page(root, layout, left_out=reasons)
    n_made = len(missing) - len(failed)
    return Summary(root, done + n_made, n_made, dict(left_out or {}), failed, page)


def training(bundle: str, root: Path) -> str:
    """Return the command that trains a bundle on a prepared folder."""
    return f"python -m monai.bundle run --config_file bundles/{bundle}/configs/train.json --dataset_dir {root}"


def print_summary(summary: Summary, started: float, next_steps: Sequence[str]) -> None:
    """Print what was done, what was left out and why, where things lie, and what to type next.

    Args:
        summary: of the preparation.
        started: `time.monotonic` at its begin.
        next_steps: commands.
    """
    for title, reasons in (("Left out", summary.left_out), ("Failed", summary.failed)):
        lines = [f"{title}: {name}: {reason}" for name, reason in reasons.items()]
        for line in lines[:_SHOWN]:
            tqdm.write(line)
        if len(lines) > _SHOWN:
            tqdm.write(f"{title}: {len(lines) - _SHOWN} more, see the quality page")
    took = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - started))
    tqdm.write(
        f"Prepared: {summary.out}  ({summary.subjects} subjects, {summary.made} of them now, in {took}; "
        f"{len(summary.left_out)} left out, {len(summary.failed)} failed)"
    )
    tqdm.write(f"Quality: open {summary.page} in a browser before you train")
    if summary.failed:
        tqdm.write("Mend the files named above and type the same command again: only these subjects are made.")
    for step in next_steps:
        tqdm.write(f"Next: {step}")
