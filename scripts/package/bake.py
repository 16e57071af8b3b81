"""A bundle's configs with the settings that its weights were trained with in the place of the defaults."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scripts.config_text import format_config
from scripts.literals import literals
from scripts.tasks import MAPS_OVERLAY, SYNTHETIC
from scripts.variants import ENCODERLESS
from scripts.weights.provenance import Provenance, plain_value, voxel_spacing

__all__ = ["ENCODER", "bake_settings", "bake_training", "inference_settings"]

ENCODER = "models/encoder/model.pt"
"""The encoder of a downstream bundle that has weights: where its training finds one without another bundle."""

_NOT_SETTINGS = ("encoder", "variant", "cohort")  # of a run, that mean another thing in a config
_AUGMENTATION = ("rotation_degrees", "scaling", "shear", "flip_probability", "padding", "intensity_probability")


def bake_training(folder: Path, found: Provenance, *, encoder: bool) -> None:
    """Rewrite the configs of training and inference and the metadata of a bundle for the weights that it carries.

    The metadata get a key ``training`` that says how these were made.

    Args:
        folder: of the bundle.
        found: what is known of its weights.
        encoder: whether it carries an encoder for its training as `ENCODER`.
    """
    settings = dict(found.settings)
    untrained = ENCODERLESS.get(str(settings.get("variant", "")))

    def train(config: dict[str, Any]) -> dict[str, Any]:
        baked = bake_settings(config, settings)
        if encoder:
            baked["encoder_bundle"] = f"$@bundle_root + '/{ENCODER}'"
        if untrained and "encoder_bundle" in config:
            baked["encoder"] = untrained
        return baked

    def inference(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, **literals(inference_settings(config, found.applied))}

    configs = folder / "configs"
    _rewrite(configs / "train.json", train)
    for name in ("inference.json", MAPS_OVERLAY):
        if (configs / name).is_file():
            _rewrite(configs / name, inference)
    _rewrite(configs / "metadata.json", lambda config: _described(config, found))


def bake_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the settings of a training in the place of its own, where it has them as plain values.

    Args:
        config: of ``train.json`` or ``inference.json``.
        settings: of the checkpoint, in which lists and None are strings as Python writes them.
    """
    return {**config, **literals(_known(config, settings))}


def inference_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an inference that those of the training of its weights tell.

    Args:
        config: of ``inference.json``.
        settings: of the checkpoint.
    """
    # a network that works in the voxels of any image goes on so
    own = {"spacing", "embedded"} if config.get("spacing", 0) is None else set()
    return _known(config, {name: value for name, value in settings.items() if name not in own})


def _known(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: plain_value(value) for name, value in settings.items() if name not in _NOT_SETTINGS}
    if known.get("modality") == SYNTHETIC:  # of synthetic.json; train.json alone takes images
        del known["modality"]
    if "channels" in known:
        known["features"] = known["channels"]
    if "frozen" in known:
        known["freeze"] = known["frozen"]
    if isinstance(known.get("augmentation"), list):
        known.update(zip(_AUGMENTATION, known.pop("augmentation"), strict=False))
    spacing = voxel_spacing(settings)
    if "spacing" not in known and spacing is not None:
        known["spacing"] = spacing
    return {
        name: value
        for name, value in known.items()
        if name in config and _is_plain(config[name]) and isinstance(config[name], dict) == isinstance(value, dict)
    }


def _described(metadata: dict[str, Any], found: Provenance) -> dict[str, Any]:
    """Return metadata that know the training, and the width of an encoder that is not of the default one."""
    widths = plain_value(found.settings.get("channels"))
    if isinstance(widths, list):
        metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = widths[-1]
        metadata["pred_classes"] = f"{widths[-1]} feature channels"
    return {**metadata, "training": literals(found.as_metadata())}


def _is_plain(value: Any) -> bool:
    """Return whether a value of a config stands for itself: no component, expression or reference."""
    return "_target_" not in value if isinstance(value, dict) else not str(value).startswith(("$", "@", "%"))


def _rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(format_config(change(config)), encoding="utf-8")
