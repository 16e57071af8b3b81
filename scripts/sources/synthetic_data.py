"""The subjects of a task that is trained on simulated contrasts: quantitative maps with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.labels import attach_labels
from scripts.data.splits import PARTS, label_subset
from scripts.ranks import main_process_first
from scripts.sources.pretraining_data import pretraining_data

__all__ = ["synthetic_data"]


def synthetic_data(
    dataset_dir: str | Path,
    work_dir: str | Path,
    *,
    embedded: Mapping[str, Any] | None = None,
    fractions: Sequence[float] | None = None,
    label_fraction: float = 1.0,
    draw: int = 0,
    label_suffix: str = "dseg",
    jobs: int = 2,
) -> dict[str, Any]:
    """Find, check, split and cache subjects of quantitative maps with their labels.

    Args:
        dataset_dir: a BIDS derivative of quantitative maps with ``*_dseg.nii.gz``, or ``embedded``.
        work_dir: where the embedded cohort and the cache of cropped maps go.
        embedded: arguments of the embedded cohort.
        fractions: shares of the subjects, or of the people, for training and validation; None is as there.
        label_fraction: share of the training subjects, or of their people, that is used.
        draw: which of them that are, see `scripts.data.splits.label_subset`.
        label_suffix: of the label files.
        jobs: subjects that are prepared side by side.

    Returns:
        What `scripts.sources.pretraining_data.pretraining_data` returns, each subject with ``labels``, and
        ``subjects`` that are trained on, in words.

    Raises:
        InputError: for anything about maps or labels that does not fit.
    """
    data = pretraining_data(dataset_dir, work_dir, embedded=embedded, fractions=fractions, jobs=jobs)

    def label() -> dict[str, list[dict[str, Any]]]:
        return {part: attach_labels(data[part], label_suffix) for part in PARTS}

    parts = main_process_first(label)
    people = {entry["subject"]: entry["person"] for entry in parts["training"] if entry.get("person")}
    names = label_subset(sorted({entry["subject"] for entry in parts["training"]}), label_fraction, draw, people)
    training = [entry for entry in parts["training"] if entry["subject"] in set(names)]
    told = names[0] if len(names) == 1 else f"{len(names)} subjects, {names[0]} to {names[-1]}"
    return {**data, **parts, "training": training, "subjects": f"simulated contrasts of {told}"}
