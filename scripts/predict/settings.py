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
from scripts.weights.provenance import provenance_of, weights_file
from scripts.weights.shipped import shipped_weights

__all__ = ["Wanted", "checked_settings"]


@dataclass(frozen=True)
class Wanted:
    """An inference that can begin.

    Attributes:
        folder: absolute, of the bundle.
        config: content of its inference.json.
        settings: that take the place of the config's.
        remarks: what a user wants to know of the network, in lines.
    """

    folder: Path
    config: dict[str, Any]
    settings: dict[str, Any]
    remarks: tuple[str, ...]


def checked_settings(bundle: str | Path, weights: str | Path | None, given: Mapping[str, Any]) -> Wanted:
    """Return how a bundle's inference is to run.

    Args:
        bundle: its name or folder.
        weights: see `scripts.predict.predict.predict`.
        given: setting -> what was typed.

    Raises:
        InputError: for whatever of this does not fit.
    """
    folder, config = _read_bundle(bundle)
    typed = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
    unknown = next((name for name in typed if name not in config), None)
    if unknown is not None:
        raise InputError(f"{folder / 'configs' / 'inference.json'} has no setting {unknown}: leave its option out")
    check_values(typed, config)
    if "device" in typed:
        check_device("device", typed["device"])
    path, known, remarks = _network(folder, str(bundle), config, weights)
    settings = {**known, **({} if path is None else {"weights_path": str(path)}), **typed, "bundle_root": str(folder)}
    return Wanted(folder, config, settings, remarks)


def _network(
    folder: Path, bundle: str, config: Mapping[str, Any], weights: str | Path | None
) -> tuple[Path | None, dict[str, Any], tuple[str, ...]]:
    """Return the weights, the settings that are known of them, and what to tell; None leaves them to the config."""
    if weights is None and not (folder / "models" / "model.pt").exists():
        shipped = shipped_weights(folder)
        if shipped is not None:
            return shipped.path, shipped.inference, (f"network: {shipped.summary}",)
    path = weights_file(folder, weights) if weights is None or Path(weights).exists() else None
    if path is None:
        if bundle not in BUNDLE_NAMES:  # the config alone knows
            return None if weights is None else Path(weights), {}, ()
        command = f"python -m monai.bundle run --config_file bundles/{folder.name}/configs/train.json"
        missing = folder / "models" / "model.pt" if weights is None else weights
        raise InputError(f"{missing}: no such weights file; make one with `{command}` or name another by --weights")
    found = provenance_of(path, folder.name)
    known = inference_settings(config, found.settings)
    known = {name: value for name, value in known.items() if value != config[name]}
    told = ", ".join(f"{name} {value}" for name, value in known.items())
    return path, known, (f"settings of its training: {told}",) if told else ()


def _read_bundle(bundle: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the absolute folder of a bundle, and its inference config."""
    folder = BUNDLES / str(bundle) if str(bundle) in BUNDLE_NAMES else Path(bundle)
    path = folder / "configs" / "inference.json"
    if not path.is_file():
        raise InputError(
            f"bundle {bundle} is unknown: choose {', '.join(BUNDLE_NAMES)}, or a folder with configs/inference.json"
        )
    try:
        return folder.resolve(), dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): mend it") from error
