"""Prediction on a user's own images by a bundle's inference config."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from scripts.errors import InputError, find_input_error
from scripts.limits import check_device
from scripts.weights.shipped import shipped_weights

__all__ = ["predict"]


def predict(
    bundle: str | Path,
    *images: str | Path,
    out: str | Path,
    weights: str | Path | None = None,
    spacing: float | str | None = None,
    features: Sequence[int] | None = None,
    patch_size: int | None = None,
    probabilities: bool = False,
    device: str | None = None,
    announce: Callable[[str], object] | None = None,
) -> str:
    """Run a bundle's ``configs/inference.json`` on images and return in words where the results lie.

    It does what ``python -m monai.bundle run`` does with that config and these settings; those that are not
    given stay as the config has them. Images of one name in different folders get folders of their own.

    Args:
        bundle: pretrain_seqinv, ixi_seg, arc_lesion or ixi_denoise, or the folder of a bundle.
        images: see `scripts.io.image_list.find_images`.
        out: folder for the results.
        weights: file of the network's weights; default: the ``models/model.pt`` of the bundle, or, where that was never
            trained, the network that comes with it and its own settings (`scripts.weights.shipped`).
        spacing: voxel size that the network sees [mm]; ``none`` for that of the image.
        features: widths of a network that is not of the default size.
        patch_size: side of the windows [voxels], best that of the patches in training.
        probabilities: also write the probabilities of the classes.
        device: such as ``cpu`` or ``cuda:1``; default: a GPU if there is one.
        announce: is given a line that says what will be done, before the seconds that loading takes.

    Raises:
        InputError: for whatever of this does not fit, before anything is computed.
    """
    from scripts.io.image_list import find_images

    began = time.monotonic()
    folder, config = _read_bundle(bundle)
    out = _checked_out(Path(out), images)
    files = list({path.resolve(): path for path in find_images(images)}.values())
    given = {
        "weights_path": weights,
        "spacing": spacing,
        "features": features,
        "patch_size": patch_size,
        "device": device,
    }
    settings = {name: _checked(name, value) for name, value in given.items() if value is not None}
    shipped = None
    if weights is None and not (folder / "models" / "model.pt").exists():
        shipped = shipped_weights(folder)
    if shipped is not None:
        settings = {**shipped.inference, "weights_path": str(shipped.path), **settings}
    if probabilities:
        settings["probabilities"] = True
    settings.update(image=[str(path) for path in files], output_dir=str(out), bundle_root=str(folder))
    unknown = [name for name in settings if name not in config]
    if unknown:
        raise InputError(f"{folder / 'configs' / 'inference.json'} has no setting {unknown[0]}: leave its option out")
    root = _common_root(files)
    if root is not None:
        if "data_root_dir" not in config:
            raise InputError("several images share their name: predict them one by one, each into a folder of its own")
        settings["data_root_dir"] = root
    bar = {"_target_": "scripts.handlers.progress_bar.ProgressBar", "description": f"{folder.name}, images"}
    handlers = [*config.get("handlers", []), bar]
    _check_weights(folder, bundle, shipped.path if shipped else weights)
    if announce is not None:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        announce(f"{folder.name}: {', '.join(path.name for path in files[:3])}{more}, to {out}")
        if shipped is not None:
            announce(f"network: {shipped.summary}")
    before = _state(out)
    _run(folder, settings, {"handlers": handlers})
    written = sorted(path for path, state in _state(out).items() if before.get(path) != state)
    return _summary(folder.name, len(files), time.monotonic() - began, out, written)


def _run(folder: Path, settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Run a bundle's inference; bad input comes out as such and not in what MONAI wraps around it."""
    from scripts.bundles import run_bundle

    try:
        # an absolute path stands for itself below the folder of the bundles
        run_bundle(["inference.json"], settings, str(folder), overrides)
    except Exception as error:
        cause = find_input_error(error)
        if cause is None:
            raise
        raise cause from None


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


def _checked_out(out: Path, images: Sequence[str | Path]) -> Path:
    """Return the folder of the results after checking that they can be written there."""
    existing = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise InputError(f"--out {out}: cannot write below {existing}, give another folder")
    if any(Path(image).is_dir() and Path(image).resolve() == out.resolve() for image in images):
        raise InputError(f"--out {out} is the folder of the images: give another, or results would become images")
    return out


def _check_weights(folder: Path, bundle: str | Path, weights: str | Path | None) -> None:
    """Refuse weights that are missing, as the config would seconds later; in other folders, the config alone knows."""
    path = Path(weights) if weights is not None else folder / "models" / "model.pt"
    if str(bundle) in BUNDLE_NAMES and not path.exists():
        command = f"python -m monai.bundle run --config_file bundles/{folder.name}/configs/train.json"
        raise InputError(f"{path}: no such weights file; make one with `{command}` or name another by --weights")


def _checked(name: str, value: Any) -> Any:
    """Return the value of a setting in the type that a config takes."""
    if name == "weights_path":
        return str(value)
    if name == "spacing":
        if str(value).lower() in ("none", "null"):
            return "none"
        if isinstance(value, (int, float)) and 0 < value < 100:
            return float(value)
        raise InputError(f"--spacing {value}: give a voxel size in mm, such as 1.0, or none")
    if name == "features":
        if isinstance(value, (list, tuple)) and all(isinstance(n, int) and n > 0 for n in value):
            return list(value)
        raise InputError(f'--features {value}: give the widths of the network, such as "[64,128,256,512,768,32]"')
    if name == "patch_size":
        if isinstance(value, int) and value > 0 and value % 16 == 0:
            return value
        raise InputError(f"--patch_size {value}: give a multiple of 16 voxels, such as 96")
    check_device("--device", value)
    return str(value)


def _common_root(files: Sequence[Path]) -> str | None:
    """Return a folder that all images lie below, by which those of one name are kept apart; None if none share one.

    Raises:
        InputError: two images of one folder share their name.
    """
    from scripts.io.read import stem

    places: dict[tuple[Path | None, str], Path] = {}
    names = [stem(path) for path in files]
    alike = len(set(names)) < len(names)
    for path, name in zip(files, names, strict=True):
        other = places.setdefault((path.absolute().parent if alike else None, name), path)
        if other is not path:
            raise InputError(f"{other} and {path} would be written under one name: rename one of them")
    return os.path.commonpath([path.absolute().parent for path in files]) if alike else None


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return when each file below a folder was changed, and its size."""
    found = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in found}


def _summary(bundle: str, n_images: int, seconds: float, out: Path, written: Sequence[Path]) -> str:
    shown = [f"  {path.relative_to(out)}" for path in written[:12]]
    rest = [f"  and {len(written) - 12} more"] if len(written) > 12 else []
    images = "1 image" if n_images == 1 else f"{n_images} images"
    return "\n".join([f"{bundle}: {images} in {seconds / 60:.1f} min, written to {out}", *shown, *rest])
