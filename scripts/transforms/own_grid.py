"""Results brought back to the grid of the file that they were computed from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple_rep
from torch import Tensor

from scripts.io.resample import onto

__all__ = ["FillBackgroundd", "ToOwnGridd"]


class ToOwnGridd(MapTransform):
    """Bring volumes to the voxels of the file of their image; 0 outside their own extent.

    Where voxels coincide, values are moved and none is changed. Not Invertd: it interpolates there as well, and
    takes the air that was cut off for a continuation of the edge.

    Args:
        keys: of volumes (C, I, J, K), each a `MetaTensor` with the ``original_affine`` (4, 4) and ``spatial_shape``
            (3,) of the file in its meta data; they become (C, X, Y, Z), on the CPU.
        mode: how values are interpolated where they have to be, one for all keys or one each.
        allow_missing_keys: pass over keys that a sample lacks.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mode: Literal["nearest", "bilinear"] | Sequence[Literal["nearest", "bilinear"]],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mode = ensure_tuple_rep(mode, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Bring."""
        brought = dict(data)
        for key, mode in self.key_iterator(brought, self.mode):
            volume = brought[key]
            affine, shape = volume.meta["original_affine"], [int(n) for n in volume.meta["spatial_shape"]]
            meta = {entry: value for entry, value in volume.meta.items() if entry != "affine"}
            brought[key] = MetaTensor(onto(volume, affine, shape, mode), affine=torch.as_tensor(affine), meta=meta)
        return brought


class FillBackgroundd(MapTransform):
    """Give the background, channel 0 of probabilities (C, I, J, K), what the classes leave of 1.

    So it is 1 where the network saw nothing.

    Args:
        keys: of the probabilities.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fill."""
        filled = dict(data)
        for key in self.key_iterator(filled):
            classes = filled[key].as_subclass(Tensor)[1:]
            background = (1 - classes.sum(dim=0, keepdim=True)).clamp(min=0)
            filled[key] = MetaTensor(torch.cat([background, classes]), meta=dict(filled[key].meta))
        return filled
