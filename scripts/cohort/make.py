"""Making the subjects of an embedded cohort side by side, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from scripts.cohort.template import load_template
from scripts.errors import InputError
from scripts.io.write import write_json
from scripts.parallel import Threads, default_jobs, run_all

__all__ = ["PROVENANCE", "check_numbers", "check_spacing", "claim", "make_all"]

PROVENANCE = "cohort.json"
"""File at the root of every embedded cohort: its settings."""

T = TypeVar("T")


def check_numbers(seed: int, jobs: int | None, **counts: int) -> None:
    """Make sure that counts of subjects, seed and jobs are whole numbers in range.

    Raises:
        InputError: naming the first that is not.
    """
    for name, count in counts.items():
        if not isinstance(count, int) or not 0 <= count <= 999:
            raise InputError(f"{name} is {count}: choose a whole number from 0 to 999")
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed}: choose a whole number, 0 or more")
    default_jobs(jobs)


def check_spacing(spacing: float | None) -> float | None:
    """Return the voxels' side [mm] of a cohort of heads, None for the voxels of the real data, if it is in range.

    Raises:
        InputError: if it is not.
    """
    if spacing is None:
        return None
    if not isinstance(spacing, int | float) or not 0.9 <= spacing <= 8.0:
        raise InputError(f"spacing is {spacing} mm: choose a number from 0.9 to 8, or leave it out")
    return float(spacing)


def claim(root: Path, settings: dict[str, Any]) -> None:
    """Make ``root`` ours, or refuse it; remove what an interrupted run left half-written.

    Raises:
        InputError: if it holds something else, or a cohort made with other settings.
    """
    record = root / PROVENANCE
    blocking = next((path for path in (root, *root.parents) if path.exists()), root)
    if blocking.exists() and not blocking.is_dir():
        raise InputError(f"{blocking} is a file: name a folder with --out")
    if not record.is_file():
        if root.is_dir() and any(not path.name.startswith(".part-") for path in root.iterdir()):
            raise InputError(f"{root} holds other files: name an empty or new folder with --out")
        root.mkdir(parents=True, exist_ok=True)
        write_json(record, settings)
        return
    try:
        found = json.loads(record.read_text())
    except ValueError as error:
        raise InputError(f"{record} is not readable: delete {root} and run again") from error
    if not isinstance(found, dict):
        raise InputError(f"{record} holds no settings: delete {root} and run again")
    if found != settings:
        other = ", ".join(
            f"{key} {found.get(key)}" for key in {**settings, **found} if found.get(key) != settings.get(key)
        )
        raise InputError(f"{root} holds a cohort made with {other}: use these settings or another --out")
    for leftover in root.glob(".part-*"):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def make_all(
    people: Sequence[T],
    missing: Sequence[T],
    make: Callable[[T], None],
    *,
    spacing: float,
    jobs: int | None,
    progress: bool,
    from_template: bool = True,
) -> None:
    """Make the missing ones of some subjects, several at once; the first failure stops those not begun.

    Args:
        people: all subjects.
        missing: those to make.
        make: makes one.
        spacing: of the grid that they are made on [mm].
        jobs: subjects made at once; None takes one per core, at most 4.
        progress: whether to show a bar.
        from_template: whether they are made of the template, which is then read once, before all of them.
    """
    if missing and from_template:
        load_template(max(spacing, 1.0))
    # One torch thread each: subjects side by side use the cores better than threads within a subject.
    team = Threads(default_jobs(jobs, most=4), torch_threads=1)
    run_all(missing, make, team, what="subjects", unit="subject", progress=progress, done=len(people) - len(missing))
