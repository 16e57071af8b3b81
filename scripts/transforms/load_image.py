"""The voxels of images, as transforms take them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from scripts.errors import InputError
from scripts.io.read import read_image

__all__ = ["LoadVolumed"]


class LoadVolumed(MapTransform):
    """Replace the path of an image by its voxels: a `MetaTensor` (1, I, J, K), float32, in RAS+ order.

    Stands for monai's LoadImaged, EnsureChannelFirstd and Orientationd, whose errors do not tell the file. Meta data
    are ``filename_or_obj``, and, of the file's own grid, ``original_affine`` (4, 4), ``spatial_shape`` (3,) and
    ``place``, the bytes of `scripts.io.header.ImageHeader.place`.

    Args:
        keys: of the paths.
    """

    def __init__(self, keys: KeysCollection) -> None:
        super().__init__(keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load.

        Raises:
            InputError: see `scripts.io.read.read_image`; also if no voxel is above 0.
        """
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            path = loaded[key]
            own, voxels, affine = read_image(path)
            if not np.any(voxels > 0):
                raise InputError(f"{path} holds no voxel above 0: give an image whose tissue is positive")
            meta = {
                "filename_or_obj": str(path),
                "original_affine": torch.from_numpy(own.affine),  # tensors, which caches read back
                "spatial_shape": torch.tensor(own.shape),
                "place": torch.frombuffer(bytearray(own.place), dtype=torch.uint8),
            }
            loaded[key] = MetaTensor(torch.from_numpy(voxels[None]), affine=torch.from_numpy(affine), meta=meta)
        return loaded
