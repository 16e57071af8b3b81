"""Where a bundle's weights come from, as far as what training and evaluation left beside them tells."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.errors import InputError

__all__ = ["Provenance", "file_sha256", "provenance_of", "weights_file"]

_SHOWN = {"ixi_seg": ("DSC", "all"), "arc_lesion": ("DSC", "lesion"), "ixi_denoise": ("PSNR_gain", "image")}


@dataclass(frozen=True)
class Provenance:
    """How weights were made.

    Attributes:
        path: the weights.
        sha256: of the file.
        settings: of the training, as its checkpoint holds them; empty where there is none.
        epoch: that the weights are of, 0 if unknown.
        scores: measure -> value of the evaluation that was made of them, in words where it is an interval.
    """

    path: Path
    sha256: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    epoch: int = 0
    scores: Mapping[str, str] = field(default_factory=dict)

    def as_metadata(self) -> dict[str, Any]:
        """Return what a reader of a shipped bundle wants to know, without any path."""
        told = (
            "mode",
            "variant",
            "modality",
            "cohort",
            "training_subjects",
            "label_fraction",
            "seed",
            "encoder",
            "split",
        )
        known = {name: self.settings[name] for name in told if name in self.settings}
        return {"weights_sha256": self.sha256, "epoch": self.epoch, **known, "evaluation": dict(self.scores)}


def weights_file(bundle: Path, given: str | Path | None = None) -> Path | None:
    """Return the weights of a bundle, None where it has none.

    Args:
        bundle: its folder; its name is the bundle's.
        given: a weights file, a folder that holds ``model.pt`` or ``models/model.pt``, or the folder of a demo, which
            holds such a folder for each bundle. Default: ``models/model.pt`` of the bundle.

    Raises:
        InputError: what was given holds no weights for this bundle.
    """
    if given is None:
        path = bundle / "models" / "model.pt"
        return path if path.is_file() else None
    given = Path(given)
    if given.is_file():
        return given
    places = [given / bundle.name / "models", given / bundle.name, given / "models", given]
    if bundle.name != "pretrain_seqinv" and any((given / other).is_dir() for other in _SHOWN):
        places = places[:2]  # a demo's own models are the encoder's
    found = next((place / "model.pt" for place in places if (place / "model.pt").is_file()), None)
    if found is None:
        looked = " or ".join(str(place / "model.pt") for place in places[:3])
        raise InputError(f"{given} holds no weights for {bundle.name}: there is no {looked}")
    return found


def provenance_of(weights: Path, bundle: str) -> Provenance:
    """Return what is known of a weights file.

    Args:
        weights: the file.
        bundle: name of its bundle.

    Raises:
        InputError: the file cannot be read, or the checkpoint beside it is damaged.
    """
    import torch

    checkpoint = weights.with_name("checkpoint.pt")
    settings: Mapping[str, Any] = {}
    epoch = 0
    if checkpoint.is_file():
        try:
            saved = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
            settings = dict(saved["settings"])
            best = int(saved.get("best", {}).get("epoch", -1))
            epoch = best if best > 0 else int(saved["epoch"])
        except Exception as error:
            raise InputError(
                f"{checkpoint} is damaged, or no checkpoint of this project: move it away, or copy it again"
            ) from error
    return Provenance(weights, file_sha256(weights), settings, epoch, _scores(weights, bundle))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as a hexadecimal number."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    found = hashlib.sha256()
    while part := stream.read(1 << 20):
        found.update(part)
    return found.hexdigest()


def _scores(weights: Path, bundle: str) -> dict[str, str]:
    """Return the scores beside weights, if they are younger than these."""
    if bundle not in _SHOWN:
        return _invariance(weights)
    table = weights.parent.parent / "eval" / "summary.csv"
    if not _is_younger(table, weights):
        return {}
    metric, name = _SHOWN[bundle]
    with table.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["metric"] == metric and row["class"] == name]
    return {
        f"{metric} {row['site']} {row['modality']}": (
            f"{float(row['mean']):.3f} +- {float(row['standard_error'] or 'nan'):.3f} (n = {row['n']})"
        )
        for row in rows
    }


def _invariance(weights: Path) -> dict[str, str]:
    table = weights.parent.parent / "eval" / "invariance.csv"
    if not _is_younger(table, weights):
        return {}
    with table.open(encoding="utf-8", newline="") as lines:
        rows = [
            row for row in csv.DictReader(lines) if row["metric"] in ("retrieval_top1", "tissue_r2_across_sequences")
        ]
    return {
        f"{row['metric']} ({row['level']})": f"{float(row['value']):.3f}"
        for row in rows
        if row.get("encoder") == "pretrained"
    }


def _is_younger(table: Path, weights: Path) -> bool:
    return table.is_file() and table.stat().st_mtime >= weights.stat().st_mtime
