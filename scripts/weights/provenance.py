"""Where a bundle's weights come from, as far as what training and evaluation left beside them tells."""

from __future__ import annotations

import ast
import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.tasks import PRETRAIN_BUNDLE, TASKS
from scripts.weights.archive import check_archive
from scripts.weights.shipped import read_card, shipped_file

__all__ = [
    "Provenance",
    "file_sha256",
    "plain_value",
    "provenance_of",
    "voxel_spacing",
    "weights_file",
]

_INVARIANCE = ("retrieval_top1", "tissue_r2_across_sequences")
_KNOWN = ("mode", "variant", "modality", "cohort", "training_subjects", "label_fraction", "seed", "encoder", "split")
_OWN_NAMES = ("model.pt", "checkpoint.pt")
_ALIEN = "the checkpoint beside it is of other weights, so nothing is known of its training"


@dataclass(frozen=True)
class Provenance:
    """How weights were made.

    Attributes:
        path: the weights.
        sha256: of the file.
        settings: of the training, as its checkpoint holds them; empty where there is none.
        epoch: that the weights are of, 0 if unknown.
        scores: measure -> value of the evaluation that was made of them, in words.
        steps: of training until then, 0 if unknown.
        note: why nothing is known although there is a checkpoint; mostly empty.
        inference: settings under which it is applied where they are others than those of the training.
        summary: what the network is, in a line, where it came with the checkout; else empty.
    """

    path: Path
    sha256: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    scores: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    note: str = ""
    inference: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""

    @property
    def applied(self) -> Mapping[str, Any]:
        """Settings under which the network is applied: those of its training, but for `inference`."""
        return {**self.settings, **self.inference}

    def as_metadata(self) -> dict[str, Any]:
        """Return what a reader of a shipped bundle wants to know, without any path or name of a subject."""
        known = {name: self.settings[name] for name in _KNOWN if name in self.settings}
        if "training_subjects" in known:  # how many; their names are nobody else's business
            known["training_subjects"] = str(known["training_subjects"]).partition(",")[0]
        return {"weights_sha256": self.sha256, "epoch": self.epoch, **known, "evaluation": dict(self.scores)}


def weights_file(bundle: Path, given: str | Path | None = None) -> Path | None:
    """Return the weights of a bundle, None where it has none.

    Args:
        bundle: its folder; its name is the bundle's.
        given: a weights file, a folder that holds ``model.pt`` or ``models/model.pt``, or the folder of a demo, which
            holds such a folder for each bundle. Default: ``models/model.pt`` of the bundle, or, where that was never
            trained, the network that comes with it (`scripts.weights.shipped`).

    Raises:
        InputError: what was given holds no weights for this bundle.
    """
    if given is None:
        own = bundle / "models" / "model.pt"
        return next((path for path in (own, shipped_file(bundle)) if path.is_file()), None)
    given = Path(given)
    if given.is_file():
        return given
    if not given.is_dir():
        raise InputError(f"{given} holds no weights for {bundle.name}: it does not exist, check the path")
    places = [given / bundle.name / "models", given / bundle.name, given / "models", given]
    if bundle.name != PRETRAIN_BUNDLE and any((given / other).is_dir() for other in TASKS):
        places = places[:2]  # a demo's own models are the encoder's
    found = next((place / "model.pt" for place in places if (place / "model.pt").is_file()), None)
    if found is None:
        looked = " or ".join(str(place / "model.pt") for place in places[:3])
        raise InputError(f"{given} holds no weights for {bundle.name}: there is no {looked}")
    return found


def provenance_of(weights: Path, bundle: str) -> Provenance:
    """Return what is known of a weights file.

    The checkpoint beside a ``model.pt`` tells how that was trained, unless its tensors show that it is of another
    network or training; of a network that comes with the checkout, its card does.

    Args:
        weights: the file.
        bundle: name of its bundle.

    Raises:
        InputError: the file, the checkpoint or the card beside it or the table of its evaluation cannot be read.
    """
    try:
        sha256 = file_sha256(weights)
    except OSError as error:
        raise InputError(f"{weights} cannot be read ({error.strerror}): check the path and its rights") from error
    card = read_card(weights)
    if card is not None:
        card.check(sha256)
        return Provenance(
            weights,
            sha256,
            settings=card.training,
            scores=card.scores,
            steps=card.steps,
            inference=card.inference,
            summary=card.summary,
        )
    checkpoint = weights.with_name("checkpoint.pt")
    scores = _scores(weights, bundle)
    if weights.name not in _OWN_NAMES or not checkpoint.is_file():
        return Provenance(weights, sha256, scores=scores)
    saved = _checkpoint(checkpoint)
    settings: Mapping[str, Any] = saved["settings"]
    last, best = int(saved["epoch"]), int(saved.get("best", {}).get("epoch", -1))
    is_best = best > 0 and weights.name == "model.pt"
    if weights.name == "model.pt" and not _is_of(weights, saved, same_values=best in (-1, last)):
        return Provenance(weights, sha256, scores=scores, note=_ALIEN)
    epoch = best if is_best else last
    steps = round(int(saved.get("iteration", 0)) * epoch / last) if last else 0
    return Provenance(weights, sha256, settings, epoch, scores, steps)


def voxel_spacing(settings: Mapping[str, Any]) -> float | None:
    """Return the voxel size [mm] that a training of these settings saw, None if they do not tell it."""
    if "spacing" in settings:
        found = settings["spacing"]
    else:
        cohort = plain_value(settings.get("embedded"))
        found = cohort.get("spacing") if isinstance(cohort, dict) else None
    return float(found) if isinstance(found, (int, float)) and found > 0 else None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal number."""
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            found.update(part)
    return found.hexdigest()


def plain_value(value: Any) -> Any:
    """Return the value that a checkpoint's string stands for: lists and None are written as Python writes them."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _checkpoint(path: Path) -> dict[str, Any]:
    import torch

    try:
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {**saved, "settings": dict(saved["settings"]), "epoch": int(saved["epoch"])}
    except Exception as error:
        raise InputError(
            f"{path} is damaged, or no checkpoint of this project: move it away, or copy it again"
        ) from error


def _is_of(weights: Path, saved: Mapping[str, Any], *, same_values: bool) -> bool:
    """Return whether weights are the network of a checkpoint: its tensors by name and shape, or also by value."""
    import torch

    theirs = saved.get("model")
    if not isinstance(theirs, Mapping):
        return True  # nothing to compare with
    check_archive(weights)
    try:
        ours = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{weights} is no weights file of torch, or damaged: copy or make it again") from error
    if not isinstance(ours, Mapping) or ours.keys() != theirs.keys():
        return False
    if not same_values:
        return all(ours[name].shape == value.shape for name, value in theirs.items())
    return all(torch.equal(ours[name], value) for name, value in theirs.items())


def _scores(weights: Path, bundle: str) -> dict[str, str]:
    """Return the scores beside weights, if they are younger than these."""
    table = _evaluation(weights) / ("summary.csv" if bundle in TASKS else "invariance.csv")
    if not table.is_file() or table.stat().st_mtime < weights.stat().st_mtime:
        return {}
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        return _task_scores(rows, bundle) if bundle in TASKS else _invariance(rows)
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{table} is no table of an evaluation, or damaged: evaluate again") from error


def _evaluation(weights: Path) -> Path:
    """Return the folder of the evaluation of weights: ``eval`` beside ``models``, and in it what is below that."""
    for above in weights.parents[:2]:
        if above.name == "models":
            return above.parent / "eval" / weights.parent.relative_to(above)
    return weights.parent / "eval"


def _task_scores(rows: Sequence[Mapping[str, str]], bundle: str) -> dict[str, str]:
    metric, name = TASKS[bundle].alone.name, TASKS[bundle].scored
    found = {}
    for row in rows:
        if row["metric"] == metric and row["class"] == name and row["mean"]:
            spread = f" +- {float(row['standard_error']):.3f}" if row["standard_error"] else ""
            found[f"{metric} {row['site']} {row['modality']}"] = f"{float(row['mean']):.3f}{spread} (n = {row['n']})"
    return found


def _invariance(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    values = {(row["metric"], row["level"], row["encoder"]): row for row in rows if row["value"]}
    found = {}
    for (metric, level, encoder), row in values.items():
        if encoder != "pretrained" or metric not in _INVARIANCE:
            continue
        untrained = values.get((metric, level, "random"))
        words = [f"untrained {float(untrained['value']):.3f}"] if untrained else []
        words.append(f"chance {float(row['chance']):.3f}")
        found[f"{metric} ({level})"] = f"{float(row['value']):.3f} ({', '.join(words)})"
    return found
