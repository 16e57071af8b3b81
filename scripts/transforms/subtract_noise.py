"""The noise that a network found, taken off the image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from scripts.errors import InputError

__all__ = ["SubtractNoised"]


class SubtractNoised(MapTransform):
    """Replace predicted noise by the image less this noise, in the image's intensity units.

    Args:
        keys: of the noise (1, I, J, K) in units of ``deviation`` of its meta data, as `NormaliseForegroundd` sees
            an image.
        image_key: of the image in its own units, (1, I, J, K) on the same grid.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "original") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Subtract.

        Raises:
            InputError: the deviation is unknown.
        """
        clean = dict(data)
        image = clean[self.image_key].as_subclass(Tensor)
        for key in self.key_iterator(clean):
            noise = clean[key]
            if "deviation" not in noise.meta:
                name = noise.meta.get("filename_or_obj", "the image")
                raise InputError(
                    f"{name}: denoising needs the image's deviation: normalise it with NormaliseForegroundd"
                )
            denoised = image - noise.as_subclass(Tensor) * float(noise.meta["deviation"])
            clean[key] = MetaTensor(denoised, meta=dict(noise.meta))
        return clean
