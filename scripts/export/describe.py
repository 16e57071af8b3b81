"""What a reader of an exported encoder wants to know, as the content of its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.export.formats import FORMATS
from scripts.export.onnx import OPSET
from scripts.export.source import Source
from scripts.weights.provenance import plain_value, voxel_spacing

__all__ = ["MODEL_TYPE", "describe"]

MODEL_TYPE = "seqinv_encoder"
"""By which ``config.json`` is known as one of ours."""

_UNKNOWN = "unknown"
_NORMALISATION = (
    "zero mean and unit standard deviation over the voxels above 0 of each image (divided by their number); "
    "the background of 0 goes through the same map"
)
_PRIVATE = ("training_subjects",)  # names of subjects are nobody else's business


def describe(source: Source, formats: Sequence[str]) -> dict[str, Any]:
    """Return the config of an encoder: architecture, input, training, evaluation. It holds no path.

    Args:
        source: the encoder.
        formats: that it is written in.
    """
    encoder, found = source.encoder, source.provenance
    settings = {name: _shown(value) for name, value in found.settings.items() if name not in _PRIVATE}
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["Encoder"],
        "in_channels": source.in_channels,
        "features": list(encoder.channels),
        "feature_channels": encoder.channels[-1],
        "stride": encoder.stride,
        "kernel_size": 3,
        "activation": "GELU",
        "norm": "instance, without affine parameters",
        "convolutions_per_level": 2,
        "files": {FORMATS[name].file: _details(name) for name in formats},
        "input": {
            "layout": "batch, channel, x, y, z; RAS+ (left to right, back to front, bottom to top)",
            "content": "magnitude MRI of any contrast, brain-masked, background 0, tissue above 0",
            "normalisation": _NORMALISATION,
            "size_multiple_of": encoder.stride,
            "smallest_size": 2 * encoder.stride,
            "patch_size": _number(settings.get("patch_size")),
            "voxel_spacing_mm": voxel_spacing(found.settings),
        },
        "training": {
            "source_sha256": found.sha256,
            **_training(settings),
            "epochs": found.epoch or None,
            "steps": found.steps or None,
            "settings": settings,
        },
        "evaluation": dict(found.scores),
    }


def _training(settings: Mapping[str, Any]) -> dict[str, Any]:
    cohort = settings.get("cohort", _UNKNOWN)
    embedded = settings.get("embedded")
    # what a task's encoder was pretrained on, the task's training does not know
    is_known = cohort != _UNKNOWN and ("mode" in settings or not settings.get("encoder"))
    common = {
        "variant": settings.get("mode", settings.get("variant", _UNKNOWN)),
        "cohort": cohort,
        "simulated": cohort == "embedded" if is_known else None,
    }
    if "mode" in settings:
        subjects = embedded.get("subjects") if isinstance(embedded, Mapping) else None
        return {"kind": "pretraining", **common, "subjects_in_cohort": _number(subjects)}
    if "frozen" in settings:
        # the beginning of the SHA-256 is all that a training keeps of it
        encoder = {"pretrained_encoder": settings.get("encoder") or None, "frozen": settings["frozen"]}
        return {"kind": "downstream task", **common, **encoder}
    return {"kind": _UNKNOWN, **common}


def _shown(value: Any) -> Any:
    """Return a setting as a value of JSON; of a path only the last part."""
    plain = plain_value(value)
    if isinstance(plain, str) and ("/" in plain or "\\" in plain):
        return Path(plain.replace("\\", "/")).name
    if isinstance(plain, Mapping):
        return {str(key): _shown(inner) for key, inner in plain.items()}
    return [_shown(inner) for inner in plain] if isinstance(plain, (list, tuple)) else plain


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) else None


def _details(name: str) -> dict[str, Any]:
    if name == "onnx":
        return {"format": name, "opset": OPSET, "input": "image", "output": "features"}
    return {"format": name}
