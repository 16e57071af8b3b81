"""Under which settings a bundle's inference runs: what was typed, what is known of the weights, what its config has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from scripts.errors import InputError
from scripts.limits import check_device, check_values
from scripts.package.bake import inference_settings
from scripts.tasks import MAPS_OVERLAY, PRETRAIN_BUNDLE, TRAIN_MAPS
from scripts.weights.provenance import provenance_of, weights_file

__all__ = ["INFERENCE", "Wanted", "checked_settings"]

INFERENCE = "inference.json"


@dataclass(frozen=True)
class Wanted:
    """An inference that can begin.

    Attributes:
        folder: absolute, of the bundle.
        files: names of its configs that are merged.
        config: what they hold.
        settings: that take the place of the config's.
        remarks: what a user wants to know of the network, in lines.
    """

    folder: Path
    files: tuple[str, ...]
    config: dict[str, Any]
    settings: dict[str, Any]
    remarks: tuple[str, ...]


def checked_settings(
    bundle: str | Path, weights: str | Path | None, given: Mapping[str, Any], *, maps: bool = False
) -> Wanted:
    """Return how a bundle's inference is to run.

    Args:
        bundle: its name or folder.
        weights: see `scripts.predict.predict.predict`.
        given: setting -> what was typed.
        maps: whether it is to give maps.

    Raises:
        InputError: for whatever of this does not fit.
    """
    folder, base = _read_bundle(bundle)
    files: tuple[str, ...] = (INFERENCE,)
    config = base
    if maps:
        if not (folder / "configs" / MAPS_OVERLAY).is_file():
            raise InputError(f"bundle {bundle} gives no maps: leave --maps and --render out, or take {PRETRAIN_BUNDLE}")
        files, config = (INFERENCE, MAPS_OVERLAY), {**base, **_read_config(folder / "configs" / MAPS_OVERLAY)}
    typed = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    unknown = next((name for name in typed if name not in config), None)
    if unknown is not None:
        raise InputError(f"{folder / 'configs' / files[-1]} has no setting {unknown}: leave its option out")
    check_values(typed, base)
    if "device" in typed:
        check_device("device", typed["device"])
    path, known, remarks = _network(folder, str(bundle), config, weights, train=TRAIN_MAPS if maps else None)
    settings = {**known, **({} if path is None else {"weights_path": str(path)}), **typed, "bundle_root": str(folder)}
    return Wanted(folder, files, config, settings, remarks)


def _network(
    folder: Path, bundle: str, config: Mapping[str, Any], weights: str | Path | None, train: str | None
) -> tuple[Path | None, dict[str, Any], tuple[str, ...]]:
    """Return the weights, the settings that are known of them, and what to tell; None leaves them to the config.

    ``train`` is the command that makes such weights, where it is not that of the bundle's own training.
    """
    path = weights_file(folder, weights) if weights is None or Path(weights).exists() else None
    if path is None:
        if bundle not in BUNDLE_NAMES:  # the config alone knows
            return None if weights is None else Path(weights), {}, ()
        command = train or f"python -m monai.bundle run --config_file bundles/{folder.name}/configs/train.json"
        missing = folder / "models" / "model.pt" if weights is None else weights
        raise InputError(f"{missing}: no such weights file; make one with `{command}` or name another by --weights")
    found = provenance_of(path, folder.name)
    known = inference_settings(config, found.applied)
    known = {name: value for name, value in known.items() if value != config[name]}
    if found.summary:
        return path, known, (f"network: {found.summary}",)
    told = ", ".join(f"{name} {value}" for name, value in known.items())
    return path, known, (f"settings of its training: {told}",) if told else ()


def _read_bundle(bundle: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the absolute folder of a bundle, and its inference config."""
    folder = BUNDLES / str(bundle) if str(bundle) in BUNDLE_NAMES else Path(bundle)
    path = folder / "configs" / INFERENCE
    if not path.is_file():
        raise InputError(
            f"bundle {bundle} is unknown: choose {', '.join(BUNDLE_NAMES)}, or a folder with configs/inference.json"
        )
    return folder.resolve(), _read_config(path)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): mend it") from error
