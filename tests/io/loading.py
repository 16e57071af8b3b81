"""Loading as the bundles' configs do it."""

from __future__ import annotations

from typing import Any

from monai.transforms import EnsureChannelFirstd, LoadImaged, Orientationd

from scripts.io.volume_reader import VolumeReader


def loading(keys: str = "image") -> list[Any]:
    return [
        LoadImaged(keys, reader=VolumeReader()),
        EnsureChannelFirstd(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
    ]
