"""What every run of a bundle does first."""

from __future__ import annotations

import ctypes
import json
import logging
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.errors import InputError, report_input_errors
from scripts.limits import check_device, check_values
from scripts.merged_config import running_config
from scripts.ranks import rank
from scripts.setting_names import check_names

if TYPE_CHECKING:
    import torch

__all__ = ["base_config", "keep_freed_memory", "start"]

logger = logging.getLogger(__name__)

# parameters of mallopt(3)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def start(bundle_root: str, device: torch.device | str, resolved: Mapping[str, Any]) -> None:
    """Check the config, as merged, and say that a run has begun.

    From now on wrong input ends it with one line, and it keeps the memory that it frees.

    Args:
        bundle_root: folder of the bundle.
        device: that the run takes.
        resolved: ``$__local_refs`` of the config.

    Raises:
        InputError: a setting that the configs do not have, a value that none can have, a device that is not here.
    """
    report_input_errors()
    logging.getLogger("ignite.engine.engine").setLevel(logging.CRITICAL)  # it logs errors that it raises all the same
    config = running_config(resolved)
    base = base_config(bundle_root, config)
    check_names(config, base)
    check_values(config, base)
    check_device("device", device)
    keep_freed_memory()
    if rank() == 0:  # data and network may take minutes until the first step
        logger.info("%s: getting data and network ready", Path(bundle_root).resolve().name)


def base_config(bundle_root: str | Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bundle's own ``train.json`` or ``inference.json``, whichever a config is merged of."""
    path = Path(bundle_root, "configs", "train.json" if "train" in config else "inference.json")
    if not path.is_file():
        raise InputError(f"{path} is missing: type --bundle_root DIR, that of the whole bundle")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def keep_freed_memory() -> bool:
    """Let the process keep memory that tensors on the CPU free, and return whether the C library agreed.

    glibc by default gives every large block back to the system when it is freed, and the system fills the next one
    with zeros, page by page: with 3D images that takes a fifth of the time of training on a CPU. What the process
    takes at its peak stays as it is; in between it holds what it once had. Other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 64 << 20)])
