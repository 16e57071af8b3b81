"""What a network answered, checked, on the grid of the image that it was asked about."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from scripts.errors import InputError

__all__ = ["CheckPredictiond"]


class CheckPredictiond(MapTransform):
    """Check a prediction, and give it the place and the meta data of its image.

    Args:
        keys: of predictions (C, I, J, K) on the grid of the image; they become float32.
        image_key: of the image, a `MetaTensor` (1, I, J, K).
        classes: value -> name of each class but the background, 0, that the network has to have a channel for;
            None expects ``channels``.
        channels: how many there have to be without classes.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        image_key: str = "image",
        classes: Mapping[Any, str] | None = None,
        channels: int = 1,
    ) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.channels = channels
        self.classes = None if classes is None else {int(value): str(name) for value, name in classes.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check.

        Raises:
            InputError: a prediction that lies on another grid than the image, holds NaN, or has other channels.
        """
        checked = dict(data)
        image = checked[self.image_key]
        name = image.meta.get("filename_or_obj", "the image")
        for key in self.key_iterator(checked):
            values = checked[key].detach().as_subclass(Tensor).float()
            if values.ndim != 4 or values.shape[1:] != image.shape[1:]:
                raise InputError(
                    f"{name}: the prediction, {tuple(values.shape)}, does not lie on the grid of the image, "
                    f"{tuple(image.shape[1:])}: give (C, I, J, K) on that grid"
                )
            if not bool(values.isfinite().all()):
                raise InputError(f"{name}: the prediction holds NaN or Inf: check the network's weights")
            self._check_channels(len(values), name)
            meta = {entry: value for entry, value in image.meta.items() if entry != "affine"}
            checked[key] = MetaTensor(values, affine=image.affine, meta=meta)
        return checked

    def _check_channels(self, n_channels: int, name: str) -> None:
        if self.classes is None:
            if n_channels != self.channels:
                needed = "one" if self.channels == 1 else self.channels
                raise InputError(f"{name}: the network gives {n_channels} channels: it needs {needed}")
        elif n_channels < 2 or sorted(self.classes) != list(range(1, n_channels)):
            raise InputError(
                f"{name}: the network gives {n_channels} channels for the classes {self.classes}: "
                "it needs one for the background and one for each class"
            )
