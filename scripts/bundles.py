"""Where the bundles lie in a checkout, what they are called, and how they are run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["BUNDLES", "BUNDLE_NAMES", "ROOT", "run_bundle"]

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
BUNDLE_NAMES = ("pretrain_seqinv", "ixi_seg", "arc_lesion", "ixi_denoise")


def run_bundle(configs: Sequence[str], settings: Mapping[str, Any], bundle: str = "pretrain_seqinv") -> None:
    """Run configs of a bundle, merged in their order, with ``settings`` as overrides."""
    from monai.bundle import run

    with warnings.catch_warnings():
        # monai warns whoever runs a config that configs can run code; these are ours
        warnings.filterwarnings("ignore", message=".*allow list.*")
        run(config_file=[str(BUNDLES / bundle / "configs" / name) for name in configs], **settings)
