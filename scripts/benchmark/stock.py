"""The views as one would compose them from MONAI's stock per-sample transforms: what ours are timed against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.transforms import (
    ClipIntensityPercentilesd,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Rand3DElasticd,
    RandBiasFieldd,
    RandCoarseDropoutd,
    RandFlipd,
    RandGibbsNoised,
    RandRicianNoised,
    RandSpatialCropd,
)
from torch import Tensor

from scripts.physics import Protocol, simulate
from scripts.views import ViewRanges, region_size

__all__ = ["StockViews"]

MAPS = ("pd", "r1", "r2star", "mtsat")


class StockViews:
    """Two views of one subject: load four maps, clip, simulate, warp, flip, crop, corrupt, normalise.

    Probabilities are those of our own views.

    Args:
        patch_size: side of the views [voxels].
        ranges: the augmentation ranges to match.
        region_first: crop a region of 1.2 patches, the same for both views, before the warp, as who knows what the
            warp costs would; False warps whole volumes.
    """

    def __init__(self, patch_size: int, ranges: ViewRanges, region_first: bool) -> None:
        region = region_size(patch_size)
        self.load = Compose(
            [
                LoadImaged(MAPS, image_only=True),
                EnsureChannelFirstd(MAPS),
                ClipIntensityPercentilesd(MAPS, lower=0.5, upper=99.5),
            ]
        )
        self.region: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
        if region_first:
            self.region = RandSpatialCropd(("first", "second"), roi_size=[region] * 3, random_size=False)
        self.augment = Compose([*self._spatial(patch_size, ranges), *self._intensity(patch_size, ranges)])

    def __call__(self, subject: dict[str, Any], protocols: Sequence[Protocol]) -> list[dict[str, Tensor]]:
        """Return one dict of ``image`` and ``target`` (1, P, P, P) per protocol."""
        loaded = self.load({name: str(subject[name]) for name in MAPS})
        maps = torch.stack([loaded[name][0].as_tensor() for name in MAPS])[None]
        signals = {key: simulate(maps, [p])[0] for key, p in zip(("first", "second"), protocols, strict=True)}
        return [self.augment({"image": signal, "target": signal}) for signal in self.region(signals).values()]

    def _spatial(self, patch_size: int, ranges: ViewRanges) -> list[Any]:
        keys = ("image", "target")
        return [
            Rand3DElasticd(
                keys,
                sigma_range=(5, 7),
                magnitude_range=(50, 150),
                prob=1.0,
                rotate_range=[math.radians(ranges.rotation)] * 3,
                shear_range=[ranges.shear] * 6,
                scale_range=[ranges.scale] * 3,
                padding_mode="zeros",
            ),
            *[RandFlipd(keys, prob=ranges.flip, spatial_axis=axis) for axis in range(3)],
            RandSpatialCropd(keys, roi_size=[patch_size] * 3, random_size=False),
        ]

    def _intensity(self, patch_size: int, ranges: ViewRanges) -> list[Any]:
        low, high = (max(1, round(share * patch_size)) for share in ranges.cuboid_size)
        return [
            RandBiasFieldd("image", prob=ranges.bias_probability, coeff_range=(0.0, ranges.bias)),
            RandGibbsNoised("image", prob=ranges.gibbs_probability, alpha=(0.0, 1 - ranges.gibbs)),
            RandRicianNoised("image", prob=ranges.noise_probability, std=ranges.noise, relative=True),
            RandCoarseDropoutd(
                "image",
                holes=1,
                max_holes=ranges.cuboids,
                spatial_size=[low] * 3,
                max_spatial_size=[high] * 3,
                fill_value=0,
                prob=ranges.dropout_probability,
            ),
            NormalizeIntensityd(("image", "target"), nonzero=True),
        ]
