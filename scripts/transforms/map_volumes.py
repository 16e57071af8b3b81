"""Found maps as volumes of their own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

__all__ = ["MAP_KEYS", "SplitMapsd"]

MAP_KEYS = ("PDmap", "R1map", "R2starmap", "MTsat")
"""What the maps are called as BIDS calls them, in the order of their channels."""


class SplitMapsd(MapTransform):
    """Part maps into volumes (1, I, J, K) of their own, keys `MAP_KEYS`.

    Where there are eight channels, the others are the uncertainty of each: ``PDmap_uncertainty`` to
    ``MTsat_uncertainty``.

    Args:
        keys: of maps (4 or 8, I, J, K), a `MetaTensor`, see `scripts.inferers.maps.maps_in_units`; one key.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Part."""
        parted = dict(data)
        for key in self.key_iterator(parted):
            maps = parted[key]
            names = [*MAP_KEYS, *(f"{name}_uncertainty" for name in MAP_KEYS)][: len(maps)]
            for name, volume in zip(names, maps.as_subclass(Tensor).split(1), strict=True):
                parted[name] = MetaTensor(volume, affine=maps.affine, meta=_meta(maps))
        return parted


def _meta(volume: MetaTensor) -> dict[str, Any]:
    return {name: value for name, value in volume.meta.items() if name != "affine"}
