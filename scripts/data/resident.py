"""Regions cut on the device from whole volumes that stay there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["ResidentRegions"]


class ResidentRegions:
    """Cut the regions that a dataset with ``resident`` names, on the device.

    Each volume is read when it is first needed and kept: a head at 1 mm takes about 0.1 GB. The host then has nothing
    to read, and nothing to send but where the regions lie.

    Args:
        region_size: side R of a region [voxels].
        channels: how many of the maps are taken.
    """

    def __init__(self, region_size: int, channels: int) -> None:
        self.region_size = region_size
        self.channels = channels
        self._volumes: dict[tuple[str, str], Tensor] = {}

    def __call__(self, batch: Mapping[str, Any], device: torch.device | str | None) -> dict[str, Tensor]:
        """Return ``maps`` (B, C, R, R, R) and, where the batch names them, ``labels`` (B, 1, R, R, R)."""
        corners = batch["corner"].tolist()
        found = {"maps": self._stacked(batch["store"], corners, device)}
        if "label_path" in batch:
            found["labels"] = self._stacked(batch["label_path"], corners, device)
        return found

    def _stacked(self, paths: list[str], corners: list[list[int]], device: torch.device | str | None) -> Tensor:
        return torch.stack([self._cut(path, corner, device) for path, corner in zip(paths, corners, strict=True)])

    def _cut(self, path: str, corner: list[int], device: torch.device | str | None) -> Tensor:
        volume = self._volume(path, device)
        inside, outside = [slice(None)], [slice(None)]
        for first, extent in zip(corner, volume.shape[1:], strict=True):
            low, high = max(0, first), min(extent, first + self.region_size)
            inside.append(slice(low, max(low, high)))
            outside.append(slice(low - first, max(low, high) - first))
        part = volume[tuple(inside)]
        side = (self.region_size,) * 3
        if tuple(part.shape[1:]) == side:
            return part
        region = volume.new_zeros((len(volume), *side))
        region[tuple(outside)] = part
        return region

    def _volume(self, path: str, device: torch.device | str | None) -> Tensor:
        key = (path, str(device))
        if key not in self._volumes:
            self._volumes[key] = torch.from_numpy(np.load(path)[: self.channels]).to(device)
        return self._volumes[key]
