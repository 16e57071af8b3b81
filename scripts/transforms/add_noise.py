"""Noise on a clean image, as input, and the noise itself, as what a denoiser has to find."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from scripts.errors import InputError

__all__ = ["AddNoised"]


class AddNoised(RandomizableTransform, MapTransform):
    """Add white Gaussian noise to a z-scored image and keep the noise as the label (paper, section 4.1).

    Args:
        keys: of the image, (1, I, J, K); one key.
        sigma: deviation of the noise, in deviations of the image (paper: 0.2).
        label_key: where the noise goes.
        clean_key: where the clean image goes; None keeps none.
        seed: None draws noise from the transform's random state; a number makes it a function of that number
            and the entry's ``subject``, so that every evaluation sees the same.
    """

    def __init__(
        self,
        keys: KeysCollection,
        sigma: float = 0.2,
        *,
        label_key: str = "label",
        clean_key: str | None = None,
        seed: int | None = None,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob=1.0)
        if not sigma > 0:
            raise InputError(f"sigma={sigma}: the noise needs a deviation above 0")
        self.sigma = sigma
        self.label_key = label_key
        self.clean_key = clean_key
        self.seed = seed

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the noise."""
        done = dict(data)
        image = done[self.keys[0]]
        source = self.R
        if self.seed is not None:
            source = np.random.RandomState([self.seed, zlib.crc32(str(done.get("subject", "")).encode())])
        drawn = source.standard_normal(tuple(image.shape)).astype(np.float32)
        noise = torch.from_numpy(drawn) * self.sigma
        if self.clean_key is not None:
            done[self.clean_key] = image
        noisy = image.as_subclass(Tensor) + noise
        if isinstance(image, MetaTensor):
            noisy = MetaTensor(noisy, meta=dict(image.meta))
        done[self.keys[0]], done[self.label_key] = noisy, noise
        return done
