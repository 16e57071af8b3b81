"""From a checkout to bundles that stand on their own: what they need, checked, in reproducible archives."""

from __future__ import annotations

from scripts.package.build import package_bundle, package_bundles, unpack_bundle
from scripts.package.stage import check_staged, stage_bundle

__all__ = ["check_staged", "package_bundle", "package_bundles", "stage_bundle", "unpack_bundle"]
