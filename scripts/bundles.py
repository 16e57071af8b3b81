"""Where the bundles lie in a checkout, what they are called, and how they are run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.tasks import PRETRAIN_BUNDLE, TASKS

__all__ = ["BUNDLES", "BUNDLE_NAMES", "ROOT", "run_bundle"]

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
BUNDLE_NAMES = (PRETRAIN_BUNDLE, *TASKS)


def run_bundle(configs: Sequence[str], settings: Mapping[str, Any], bundle: str = PRETRAIN_BUNDLE) -> None:
    """Run configs of a bundle, merged in their order, with ``settings`` as overrides."""
    from monai.bundle import run

    from scripts.merged_config import merged_config

    files = [str(BUNDLES / bundle / "configs" / name) for name in configs]
    with warnings.catch_warnings():
        # monai warns whoever runs a config that configs can run code; these are ours
        warnings.filterwarnings("ignore", message=".*allow list.*")
        run(config_file=files, **settings, merged_config=merged_config(files, settings))
