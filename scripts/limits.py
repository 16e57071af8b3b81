"""What the settings of the bundles may be: numbers within bounds, places that are words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.errors import InputError
from scripts.switches import is_given, is_on

__all__ = ["LIMITS", "Limit", "check_device", "check_values"]

Check = Callable[[str, Any], None]


@dataclass(frozen=True)
class Limit:
    """Bounds of a number.

    Attributes:
        least: smallest value; of a whole number, if both bounds are whole.
        most: largest value.
        step: that it is a multiple of.
        or_none: whether it may be missing: null, ``none``.
    """

    least: float
    most: float
    step: int = 1
    or_none: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        what = "a number" if isinstance(self.least, float) else "a whole number"
        what = what if self.step == 1 else f"a multiple of {self.step}"
        return f"{what} from {_shown(self.least)} to {_shown(self.most)}{' or none' if self.or_none else ''}"

    def allows(self, value: Any) -> bool:
        """Return whether a value is within them."""
        if not is_given(value):
            return self.or_none
        if type(value) not in (int, float) or not math.isfinite(value):
            return False
        is_whole = type(self.least) is float or value == int(value)
        return is_whole and self.least <= value <= self.most and (self.step == 1 or value % self.step == 0)


def _shown(bound: float) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


_EPOCHS = Limit(1, 1_000_000)
_WEIGHT = Limit(0.0, 1e6)
_SHARE = Limit(0.0, 1.0)
LIMITS: Mapping[str, Limit] = {
    **{"max_epochs": _EPOCHS, "epoch_length": _EPOCHS, "max_minutes": Limit(0.01, 1e6, or_none=True)},
    **{"patience": Limit(1, 1_000_000, or_none=True), "min_epochs": _EPOCHS},
    **{"val_interval": _EPOCHS, "picture_interval": _EPOCHS, "checkpoint_interval": _EPOCHS},
    **{"batch_size": Limit(1, 4096), "n_views": Limit(2, 64), "anatomies": Limit(1, 1_000_000)},
    **{"patch_size": Limit(16, 1024, step=16), "spacing": Limit(0.05, 20.0, or_none=True)},
    **{"learning_rate": Limit(1e-12, 10.0), "weight_decay": Limit(0.0, 10.0), "gradient_clip": Limit(1e-6, 1e9)},
    **{
        "dropout": Limit(0.0, 0.95),
        "feature_dropout": Limit(0.0, 0.95),
        "temperature": Limit(0.001, 100.0),
        "voxel_temperature": Limit(0.001, 100.0),
    },
    **{"reconstruction_weight": _WEIGHT, "contrastive_weight": _WEIGHT, "maps_weight": _WEIGHT},
    **{"voxels_weight": _WEIGHT, "gradient_weight": _WEIGHT, "background_weight": _WEIGHT},
    **{"label_fraction": Limit(1e-6, 1.0), "flip_probability": _SHARE, "intensity_probability": _SHARE},
    **{"overlap": Limit(0.0, 0.95), "windows_at_once": Limit(1, 4096), "num_workers": Limit(0, 256)},
    **{"seed": Limit(0, 2**32 - 3), "draw": Limit(0, 2**32 - 3), "test_noise_seed": Limit(0, 2**32 - 3)},
    **{"noise": Limit(0.0, 10.0), "rank": Limit(0, 2**20), "world_size": Limit(1, 2**20)},
}
"""Bounds of the numbers among the settings of all bundles; ``embedded::seed`` and the like have their own checks."""

_LISTS = {
    **{"features": Limit(1, 65536), "projection": Limit(1, 65536), "sampling": Limit(0.0, 1e6)},
    **{"rotation_degrees": Limit(0.0, 1e4), "scaling": Limit(0.0, 0.99), "shear": Limit(0.0, 10.0)},
    **{"map_weights": _WEIGHT, "voxel_projection": Limit(1, 65536), "beside_features": Limit(1, 65536)},
}
_PLACES = (
    *("bundle_root", "dataset_dir", "work_dir", "cache_dir", "output_dir", "ckpt_dir", "encoder_bundle"),
    *("weights_path", "start_weights", "data_root_dir", "tracking_uri", "experiment", "cell", "variant"),
)
_SWITCHES = (
    *("resume", "freeze", "freeze_decoder", "compile", "crop_head", "probabilities", "embed", "keep_cases"),
    *("uncertainty", "recompute"),
)
_CHOICES = {"nan": ("error", "zero"), "encoder_part": ("encoder", "decoder")}
_ALSO = {"freeze": "staged"}
# what the parser of MONAI reads: the check belongs to whoever writes it
_READ = ("$", "@", "%")


def check_values(config: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Refuse values that no run can have, before any of them is used.

    Args:
        config: as merged of files and of what was set in their place.
        base: the bundle's own config, whose lists are as long as the network, or the space, asks for.

    Raises:
        InputError: a value out of bounds, with the bounds.
    """
    for name, value in config.items():
        if not (isinstance(value, str) and value.startswith(_READ)):
            _check_value(name, value, base.get(name))


def check_device(name: str, value: Any) -> None:
    """Refuse a device that is none here.

    Raises:
        InputError: for anything but ``cpu``, ``cuda``, ``cuda:N``, or such a device itself, that can be used.
    """
    import torch

    try:
        made = torch.empty(0, device=value if isinstance(value, torch.device) else str(value))
        if made.is_meta:
            raise RuntimeError("it holds no numbers")
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"{name}={value} cannot be used here: choose cpu, or cuda where there is a GPU") from error


def _check_list(name: str, value: Any, default: Sequence[float]) -> None:
    limit = _LISTS[name]
    good = isinstance(value, list | tuple) and len(value) == len(default) and all(map(limit.allows, value))
    if not good or (name == "sampling" and not sum(value) > 0):
        raise InputError(
            f"{name}={value!r} is no such list: give {len(default)} of them, each {limit}, such as {default}"
        )


def _check_value(name: str, value: Any, default: Any) -> None:
    limit = LIMITS.get(name)
    if limit is not None and not limit.allows(value):
        raise InputError(f"{name}={value!r} is out of bounds: give {limit}")
    is_by_label = name == "sampling" and isinstance(value, dict)
    if name in _LISTS and isinstance(default, list) and not is_by_label:
        _check_list(name, value, default)
    if name in _PLACES and (isinstance(value, bool | int | float)):
        raise InputError(f"{name}={value!r} is read as a number: type --{name} \"'{value}'\", with both quotes")
    if name in _SWITCHES and value != _ALSO.get(name):
        is_on(value, name)
    if name in _CHOICES and value not in _CHOICES[name]:
        raise InputError(f"{name}={value!r} is unknown: choose {' or '.join(_CHOICES[name])}")
