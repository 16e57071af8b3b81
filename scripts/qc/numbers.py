"""Numbers of a quality row: volumes, medians, ratios, windows, and which of many stand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ENOUGH", "OUTLYING", "litres", "median_of", "ratio", "robust_z", "window_of"]

OUTLYING = 3.5
"""Robust z from which a number stands out (Iglewicz and Hoaglin 1993)."""

ENOUGH = 5
"""Fewest numbers among which one can stand out."""

_BRIGHTEST = 2.5  # medians


def robust_z(values: Sequence[float]) -> list[float]:
    """Return how far each number is from the median, in deviations that outliers do not widen.

    z = (x - median) / (1.4826 MAD), MAD the median distance from the median; where that is 0, the mean distance
    by 1.2533 stands for it. All 0 for fewer than `ENOUGH` numbers, or equal ones.

    References:
        Iglewicz and Hoaglin, How to Detect and Handle Outliers, ASQC 1993.
    """
    x = np.asarray(values, dtype=np.float64)
    if len(x) < ENOUGH:
        return [0.0] * len(x)
    apart = x - np.median(x)
    spread = 1.4826 * np.median(np.abs(apart)) or 1.2533 * np.mean(np.abs(apart))
    return [float(z) for z in apart / spread] if spread > 0 else [0.0] * len(x)


def litres(voxels: float, affine: Any) -> float:
    """Return the volume [l] of a number of voxels of a grid with this (4, 4) affine [mm]."""
    return voxels * abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3]))) / 1e6


def median_of(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> float | None:
    """Return the median of ``values`` where ``mask``, None where that is nowhere."""
    return float(np.median(values[mask])) if mask.any() else None


def ratio(first: float | None, second: float | None) -> float | None:
    """Return ``first / second``, None where either is missing or the second is not positive."""
    return first / second if first is not None and second is not None and second > 0 else None


def window_of(
    cuts: Sequence[NDArray[np.float32]], inside: Sequence[NDArray[np.bool_]] | None = None
) -> tuple[float, float]:
    """Return black and white of slices of arbitrary intensity: 0, or the darkest, and their 99.5th percentile.

    White is 2.5 times the median at most: fluid in T2 and fat in T1 would leave the brain in the dark.

    Args:
        cuts: (H, W) each.
        inside: what counts; None takes what is brighter than a tenth of the brightest.
    """
    if inside is None:
        inside = [cut > 0.1 * cut.max() for cut in cuts]
    seen = np.concatenate([cut[mask] for cut, mask in zip(cuts, inside, strict=True)])
    if not seen.size:
        seen = np.concatenate([cut.ravel() for cut in cuts])
    low, high = min(0.0, float(seen.min())), float(np.percentile(seen, 99.5))
    if np.median(seen) > 0:
        high = min(high, _BRIGHTEST * float(np.median(seen)))
    return low, high if high > low else low + 1.0
