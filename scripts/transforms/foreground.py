"""The head in an image, and the normalisation of images over it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal, cast

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from scripts.errors import InputError
from scripts.views.normalise import mean_and_deviation, normalise

__all__ = ["NormaliseForegroundd", "head_mask"]

_CLOSING = 2  # voxels
_SMALLEST = 0.01  # share of the image, padding left out


def head_mask(image: Tensor) -> Tensor:
    """Return the head (or the brain, in an image of a brain alone): what is brighter than the air around it.

    The threshold is Zack's triangle on the histogram, which finds the foot of the peak that air makes, be it
    noise or 0; padding of one value around the image does not count. Then the largest connected part with all
    that it encloses, its gaps closed over two voxels and its holes filled, so that fluid and bone inside belong
    to it, and so does a brain that dark bone parts from the skin. Where that is next to nothing, there is no
    air in the image, as in one cut to a part of the brain: then all that is brighter than its darkest voxels.

    Args:
        image: (1, I, J, K) of any intensity unit, dark background.

    Returns:
        (1, I, J, K) bool.

    References:
        Zack, Rogers and Latt, 1977, doi:10.1177/25.7.70454.
    """
    from skimage.filters import threshold_triangle

    values = np.asarray(image.detach().cpu().numpy(), dtype=np.float32)[0]
    seen = values[_box(values > values.min())]
    low, high = np.percentile(seen[:: max(seen.shape[0] // 64, 1)], (0.0, 99.5))
    if not high > low:
        low, high = float(seen.min()), float(seen.max())
    above = values > (threshold_triangle(np.clip(seen, low, high)) if high > low else high)
    enclosed = cast("NDArray[np.bool_]", ndimage.binary_fill_holes(above))
    mask = _filled(_largest_part(enclosed))
    if high > low and mask.sum() < _SMALLEST * seen.size:
        mask = values > low
    return torch.from_numpy(mask[None])


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """Return where ``mask`` lies, all of its extent if it is empty."""
    found = ndimage.find_objects(mask.astype(np.int8))
    return tuple(found[0]) if found else (slice(None),) * mask.ndim


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return cast("NDArray[np.bool_]", labels == sizes.argmax())


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, _CLOSING)
    closed = ndimage.binary_closing(padded, iterations=_CLOSING)
    inner = closed[tuple(slice(_CLOSING, -_CLOSING) for _ in range(3))]
    return cast("NDArray[np.bool_]", ndimage.binary_fill_holes(inner | mask))


class NormaliseForegroundd(MapTransform):
    """Scale an image to zero mean and unit deviation over the head, and cut off the air around it.

    Training, validation, evaluation and inference all use it, so a head is seen alike however much air its
    field of view holds. The image's meta remembers ``mean`` and ``deviation``: intensity = z * deviation + mean.

    Args:
        keys: of the image, (1, I, J, K); one key.
        others: keys of volumes on the same grid that are cut likewise, where present.
        over: what mean and deviation are taken over: ``foreground``; ``volume`` and ``box``, all voxels before
            and after the cut, as the published code does in training and in testing.
        crop: cut the image to the head.
        foreground_key: where the mask (1, I, J, K) uint8 goes; None keeps none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        others: tuple[str, ...] | list[str] = (),
        *,
        over: Literal["foreground", "volume", "box"] = "foreground",
        crop: bool = True,
        foreground_key: str | None = "foreground",
    ) -> None:
        super().__init__(keys)
        if over not in ("foreground", "volume", "box"):
            raise InputError(f"normalisation={over!r} is unknown: choose foreground, volume or box")
        self.others = tuple(others)
        self.over = over
        self.crop = crop
        self.foreground_key = foreground_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Normalise and cut.

        Raises:
            InputError: an image without contrast, or without a head.
        """
        done = dict(data)
        key = self.keys[0]
        image: MetaTensor = done[key]
        mask = head_mask(image)
        box = _box(mask[0].numpy())
        inside = mask.clone()
        inside[(slice(None), *box) if self.over == "box" else ()] |= self.over != "foreground"
        plain = image.as_subclass(Tensor).float()
        values = plain[inside]
        if not mask.any() or not float(values.max()) > float(values.min()):
            name = image.meta.get("filename_or_obj", "the image")
            raise InputError(f"{name} shows no head (constant voxels): give an image of a head or brain")
        units = dict(zip(("mean", "deviation"), mean_and_deviation(plain, inside), strict=True))
        scaled = MetaTensor(normalise(plain, inside), affine=image.affine, meta={**_meta(image), **units})
        done[key] = scaled
        names = [key, *(name for name in self.others if name in done)]
        if self.foreground_key is not None:
            done[self.foreground_key] = MetaTensor(mask.to(torch.uint8), affine=image.affine)
            names.append(self.foreground_key)
        if self.crop:
            for name in names:
                done[name] = _cut(done[name], box)
        return done


def _cut(volume: MetaTensor, box: tuple[slice, ...]) -> MetaTensor:
    """Return a part of ``volume`` (C, I, J, K) that knows where it lies."""
    affine = volume.affine.clone()
    first = torch.tensor([*(float(s.start) for s in box), 1.0], dtype=affine.dtype)
    affine[:, 3] = affine @ first
    part = volume.as_subclass(Tensor)[(slice(None), *box)].contiguous()
    return MetaTensor(part, affine=affine, meta=_meta(volume))


def _meta(volume: MetaTensor) -> dict[str, Any]:
    return {name: value for name, value in volume.meta.items() if name != "affine"}
