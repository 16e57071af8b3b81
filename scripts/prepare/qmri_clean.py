"""Cleaning of quantitative maps: negatives, voxels without a value, fits that blew up."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.data.units import LIMITS

__all__ = ["Cleaning", "clean_map"]

_ISOLATED = 100.0  # mm3
_NEIGHBOURS = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
_POSITIVE = ("pd", "r1")


@dataclass(frozen=True)
class Cleaning:
    """Voxels of the brain that were changed.

    Attributes:
        no_value: NaN or infinite; of PD and R1 also 0 and less, of times turned into rates likewise.
        above_limit: beyond ``scripts.data.units.LIMITS``.
        negative: set to 0.
        filled: of the first two, those filled by the median of their neighbours.
        clipped: above the limit and not filled: set to the limit.
        left: without a value and not filled: set to 0, so that of PD and R1 they leave the brain.
    """

    no_value: int
    above_limit: int
    negative: int
    filled: int
    clipped: int
    left: int

    def counts(self) -> dict[str, int]:
        """Name -> number of voxels, of those that are not 0."""
        return {name: count for name, count in asdict(self).items() if count}


def clean_map(
    name: str, values: NDArray[np.float32], brain: NDArray[np.bool_], voxel_volume: float
) -> tuple[NDArray[np.float32], Cleaning]:
    """Return a map with plausible values throughout the brain, 0 outside, and what was changed.

    Where a fit failed (no value, or one above the limit) in a patch of up to 100 mm3, the voxels get the median
    of those around them that have a value, from the patch's edge inwards. In a larger patch a value above the
    limit becomes the limit, as the largest that is plausible, and no value becomes 0. Negative R2*, R2 and MTsat
    are noise about a small value, as in fluid: they become 0.

    Args:
        name: pd, r1, r2star, mtsat or r2.
        values: (I, J, K) in project units; NaN where there is no value.
        brain: (I, J, K).
        voxel_volume: of one voxel [mm3].
    """
    limit = np.float32(LIMITS[name])
    with np.errstate(invalid="ignore"):
        negative = brain & (values < 0)
        above = brain & (values > limit) & np.isfinite(values)
        nothing = brain & (~np.isfinite(values) | ((values <= 0) if name in _POSITIVE else False))
    if name in _POSITIVE:
        negative &= ~nothing
    done = np.where(brain & ~nothing, values, np.float32(0))
    done[negative] = 0
    failed = above | nothing
    filled = _fill(done, failed, brain, max(1, round(_ISOLATED / voxel_volume))) if failed.any() else failed
    left = failed & ~filled
    done[left & above] = limit
    counts = (nothing, above, negative, filled, left & above, left & nothing)
    return done, Cleaning(*(int(mask.sum()) for mask in counts))


def _fill(
    values: NDArray[np.float32], failed: NDArray[np.bool_], brain: NDArray[np.bool_], largest: int
) -> NDArray[np.bool_]:
    """Fill small patches of failed voxels in place and return which were filled."""
    labels, _ = ndimage.label(failed, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())
    small = (sizes <= largest)[labels] & failed
    good = np.pad(brain & ~failed, 1)
    padded = np.pad(values, 1)
    waiting = np.argwhere(small) + 1
    while len(waiting):
        around = tuple(np.moveaxis(waiting[:, None] + _NEIGHBOURS, -1, 0))
        known = good[around]
        reached = known.any(axis=1)
        if not reached.any():
            break
        near = np.where(known, padded[around], np.nan)[reached]
        here = tuple(waiting[reached].T)
        padded[here] = np.nanmedian(near, axis=1)
        good[here] = True
        waiting = waiting[~reached]
    inner = (slice(1, -1),) * 3
    values[small] = padded[inner][small]
    return np.asarray(small & good[inner])
