"""Where the bundles lie in a checkout, and what they are called."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BUNDLES", "BUNDLE_NAMES", "ROOT"]

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
BUNDLE_NAMES = ("pretrain_seqinv", "ixi_seg", "arc_lesion", "ixi_denoise")
