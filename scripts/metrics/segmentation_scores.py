"""Overlap, surface distance and volumes of two label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_hausdorff_distance
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from scripts.errors import InputError

__all__ = ["SEGMENTATION_METRICS", "LabelMap", "segmentation_scores"]

LabelMap = Tensor | NDArray[Any]
"""(I, J, K) whole numbers, 0 background."""

SEGMENTATION_METRICS = ("DSC", "HD95", "empty_prediction", "empty_truth", "volume_prediction", "volume_truth")
"""In the order in which `segmentation_scores` returns them."""


def segmentation_scores(
    prediction: LabelMap, truth: LabelMap, *, classes: Mapping[int, str], spacing: Sequence[float]
) -> list[dict[str, Any]]:
    """Return the scores of one image, a row for each class and metric.

    - ``DSC``: Dice's coefficient 2 |P and T| / (|P| + |T|).
    - ``HD95`` [mm]: the larger of the two directed 95th percentiles of the distances from the surface voxels of
      one label to the nearest surface voxel of the other (not the percentile of both sets pooled). Surface voxels
      have a face in common with a voxel outside the label; beyond the image all is outside. Distances are taken
      between voxel centres.
    - ``volume_prediction``, ``volume_truth`` [ml].
    - ``empty_prediction``, ``empty_truth``: 1 where the class does not occur, else 0.

    A class that is empty is scored, never dropped: where both are empty, DSC is 1 and HD95 is 0; where exactly one
    is, DSC is 0 and HD95 is the image's diagonal between the centres of opposite corner voxels, which is the largest
    distance possible in this image.

    Args:
        prediction: (I, J, K) labels.
        truth: (I, J, K) labels on the same grid.
        classes: value -> name of each class but the background, 0.
        spacing: (3,) sides of a voxel [mm].

    Returns:
        ``class`` (name), ``metric`` and ``value`` of each of `SEGMENTATION_METRICS`, class by class.

    Raises:
        InputError: shapes that differ or are not 3D, values that are neither 0 nor a class, sides of a voxel that
            are not positive.

    Examples:
        Of four voxels of 1 x 1 x 2 mm the last is not found: 2 * 3 / (3 + 4); distances of 0, 0, 0 and 2 mm, whose
        95th percentile is 1.7 mm:

        >>> truth, found = np.zeros((6, 6, 6)), np.zeros((6, 6, 6))
        >>> truth[2, 2, 1:5], found[2, 2, 1:4] = 1, 1
        >>> rows = segmentation_scores(found, truth, classes={1: "lesion"}, spacing=(1, 1, 2))
        >>> {row["metric"]: round(row["value"], 3) for row in rows[:2]}
        {'DSC': 0.857, 'HD95': 1.7}
    """
    sides = np.asarray(spacing, dtype=np.float64)
    if sides.shape != (3,) or not np.isfinite(sides).all() or not (sides > 0).all():
        raise InputError(f"spacing={list(spacing)}: give the three sides of a voxel, above 0 mm")
    if not classes or 0 in classes:
        raise InputError(f"classes={dict(classes)}: name the label values above 0, as in 1: lesion")
    predicted, true = _array(prediction), _array(truth)
    if predicted.shape != true.shape or true.ndim != 3 or not true.size:
        raise InputError(
            f"the prediction has shape {predicted.shape}, the truth {true.shape}: bring both, (I, J, K), to one grid"
        )
    predicted_masks = _masks(predicted, classes, "prediction")
    true_masks = _masks(true, classes, "truth")
    rows = []
    for value, name in classes.items():
        scores = _scores(predicted_masks[value], true_masks[value], sides)
        rows += [{"class": name, "metric": metric, "value": scores[metric]} for metric in SEGMENTATION_METRICS]
    return rows


def _array(labels: LabelMap) -> NDArray[Any]:
    return np.asarray(labels.detach().cpu().numpy() if isinstance(labels, Tensor) else labels)


def _masks(labels: NDArray[Any], classes: Mapping[int, str], what: str) -> dict[int, NDArray[np.bool_]]:
    """Return the mask of each class, after checking that there is nothing else but background."""
    masks = {value: labels == value for value in classes}
    n_known = np.count_nonzero(labels == 0) + sum(np.count_nonzero(mask) for mask in masks.values())
    if n_known != labels.size:
        found = np.unique(labels)
        strange = ", ".join(f"{value:g}" for value in found[~np.isin(found, [0, *classes])][:3])
        names = ", ".join(f"{value} {name}" for value, name in classes.items())
        raise InputError(f"the {what} holds the label values {strange}: write 0 background, {names}")
    return masks


def _scores(predicted: NDArray[np.bool_], true: NDArray[np.bool_], sides: NDArray[np.float64]) -> dict[str, float]:
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    overlap, distance = 1.0, 0.0
    if n_predicted and n_true:
        overlap = 2 * int((predicted & true).sum()) / (n_predicted + n_true)
        distance = _hausdorff95(predicted, true, sides)
    elif n_predicted or n_true:
        overlap, distance = 0.0, float(np.linalg.norm((np.asarray(true.shape) - 1) * sides))
    millilitres = float(sides.prod()) / 1000
    return {
        "DSC": overlap,
        "HD95": distance,
        "empty_prediction": float(n_predicted == 0),
        "empty_truth": float(n_true == 0),
        "volume_prediction": n_predicted * millilitres,
        "volume_truth": n_true * millilitres,
    }


def _hausdorff95(predicted: NDArray[np.bool_], true: NDArray[np.bool_], sides: NDArray[np.float64]) -> float:
    """Return the 95th percentile Hausdorff distance [mm] of two masks that are not empty."""
    # MONAI's own crop copies whole volumes as floats
    box = ndimage.find_objects((predicted | true).view(np.uint8))[0]
    pair = [torch.from_numpy(mask[box].astype(np.float32))[None, None] for mask in (predicted, true)]
    found = compute_hausdorff_distance(
        pair[0], pair[1], include_background=True, percentile=95, directed=False, spacing=sides.tolist()
    )
    return float(found)
