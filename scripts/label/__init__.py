"""The bundles behind MONAI Label, for 3D Slicer and other clients."""

from __future__ import annotations
