"""Scores of one test sample, added to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

from monai.data import MetaTensor
from monai.transforms.transform import Transform
from torch import Tensor

from scripts.errors import InputError
from scripts.io.resample import to_grid, voxel_sizes
from scripts.metrics.denoising_scores import denoising_scores
from scripts.metrics.segmentation_scores import segmentation_scores

__all__ = ["ScoreDenoising", "ScoreSegmentation"]


class _Score(Transform, ABC):
    """Add ``scores`` to a sample; an error names its subject."""

    @abstractmethod
    def rows(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the scores of one sample."""

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Score one sample."""
        try:
            return {**data, "scores": self.rows(data)}
        except InputError as error:
            raise InputError(f"subject {data.get('subject', 'without name')}: {error}") from error


class ScoreSegmentation(_Score):
    """Score a predicted segmentation against the truth on the truth's own grid, in its spacing.

    The prediction is logits (C, I, J, K) of background and classes, or labels (1, I, J, K); the truth is labels
    (1, X, Y, Z). Logits become labels first; labels go to the truth's grid by nearest neighbour, and are background
    where the prediction does not reach. `scripts.metrics.segmentation_scores.segmentation_scores` scores them.

    Args:
        classes: value -> name of each class but the background, 0.
        prediction_key: of the prediction; one that is no `MetaTensor` lies on the grid of the image.
        truth_key: of the truth, a `MetaTensor`.
        image_key: of the image that was predicted on.
    """

    def __init__(
        self,
        classes: Mapping[Any, str],
        *,
        prediction_key: str = "pred",
        truth_key: str = "truth",
        image_key: str = "image",
    ) -> None:
        self.classes = {int(value): str(name) for value, name in classes.items()}
        self.prediction_key, self.truth_key, self.image_key = prediction_key, truth_key, image_key

    def rows(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the scores of one sample.

        Raises:
            InputError: a key is missing, the prediction has other channels than the classes or holds NaN, the truth
                does not know its grid, or the labels of either are not whole numbers of a class.
        """
        truth = _part(data, self.truth_key)
        if not isinstance(truth, MetaTensor):
            raise InputError(f"{self.truth_key!r} does not know its grid: load it as a MetaTensor")
        affine = truth.affine.cpu()
        labels = to_grid(self._labels(data), affine, truth.shape[1:], mode="nearest").as_subclass(Tensor)
        expected = truth.as_subclass(Tensor)
        return segmentation_scores(labels[0], expected[0], classes=self.classes, spacing=voxel_sizes(affine))

    def _labels(self, data: Mapping[str, Any]) -> MetaTensor:
        """Return the predicted labels (1, I, J, K) on the CPU, with their affine."""
        predicted, image = _part(data, self.prediction_key), data.get(self.image_key)
        grid = predicted if isinstance(predicted, MetaTensor) else image
        if not isinstance(grid, MetaTensor) or grid.shape[1:] != predicted.shape[1:]:
            raise InputError(f"the grid of {self.prediction_key!r} is unknown: keep its affine")
        values, n_channels = predicted.detach().as_subclass(Tensor), max(self.classes) + 1
        if len(values) not in (1, n_channels):
            raise InputError(
                f"the network gives {len(values)} channels for the classes {', '.join(self.classes.values())}: "
                f"use one of {n_channels} channels, background first"
            )
        if not bool(values.isfinite().all()):
            raise InputError("the prediction holds NaN or Inf: check the network's weights")
        labels = values.argmax(0, keepdim=True) if len(values) > 1 else values
        if not bool((labels == labels.short()).all()):
            raise InputError("one channel of fractions is no label map: give labels, or the logits of all classes")
        return MetaTensor(labels.short().cpu(), affine=grid.affine.cpu())


class ScoreDenoising(_Score):
    """Score a denoised image, the noisy image less the predicted noise, and the noisy image itself.

    All are (1, I, J, K) on one grid; `scripts.metrics.denoising_scores.denoising_scores` scores them.

    Args:
        image_key: of the noisy image, z-scored.
        clean_key: of the clean image.
        prediction_key: of the predicted noise.
        head_key: of the mask of the head.
    """

    def __init__(
        self,
        *,
        image_key: str = "image",
        clean_key: str = "clean",
        prediction_key: str = "pred",
        head_key: str = "foreground",
    ) -> None:
        self.keys = (image_key, clean_key, prediction_key, head_key)

    def rows(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the scores of one sample.

        Raises:
            InputError: a key is missing, volumes of several channels or of different grids, or what
                `scripts.metrics.denoising_scores.denoising_scores` refuses.
        """
        volumes = [_part(data, key).detach().as_subclass(Tensor).cpu() for key in self.keys]
        shapes = [tuple(volume.shape) for volume in volumes]
        if len(set(shapes)) > 1 or len(shapes[0]) != 4 or shapes[0][0] != 1:
            told = ", ".join(f"{key} {shape}" for key, shape in zip(self.keys, shapes, strict=True))
            raise InputError(f"{told}: give volumes (1, I, J, K) on one grid")
        noisy, clean, noise, head = (volume[0].double() for volume in volumes)
        return denoising_scores(clean, noisy, noisy - noise, head)


def _part(data: Mapping[str, Any], key: str) -> Tensor:
    if key not in data:
        raise InputError(f"there is no {key!r} among {', '.join(map(str, data))}: keep it for the evaluation")
    return cast("Tensor", data[key])
