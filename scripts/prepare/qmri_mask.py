"""The brain in quantitative maps: as a mask says, as masked maps show, or as found in a simulated T1w image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scripts.data.units import LIMITS
from scripts.errors import InputError
from scripts.io.read import read_volume

__all__ = ["core_of_head", "is_masked", "litres", "maps_mask", "read_mask", "simulated_mask"]

_LARGEST = 2.3  # litres that a masked brain may have; a head has twice that
_WHOLE = 0.85  # share of the field of view that is no masked brain any more
_ONE_PART = 0.9
_DEPTH = 20.0  # mm from the skin to the brain's middle parts
_T1W = {"tr": 2.3, "ti": 0.9, "tx": 0.007, "te": 0.003, "flip_angle": 9.0, "n": 160, "efficiency": 0.96}


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Return a mask file's voxels (I, J, K) in RAS+ order: those above half of its largest value.

    Raises:
        InputError: if it is unreadable or 0 everywhere.
    """
    volume, _ = read_volume(path, nan="zero")
    if not (volume > 0).any():
        raise InputError(f"{path} is 0 everywhere: give a mask that is 1 in the brain")
    return np.asarray(volume > 0.5 * volume.max())


def maps_mask(volumes: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Return where PD (if there is one) and R1 are positive (I, J, K); NaN is not."""
    positive = np.asarray(volumes["r1"] > 0)
    return positive & (volumes["pd"] > 0) if "pd" in volumes else positive


def is_masked(positive: NDArray[np.bool_], affine: NDArray[np.float64]) -> bool:
    """Tell whether maps that are positive there were masked: not larger than a brain, and in one part.

    Args:
        positive: (I, J, K) result of `maps_mask`.
        affine: (4, 4) voxel to world [mm].
    """
    if positive.mean() > _WHOLE or litres(positive, affine) > _LARGEST:
        return False
    labels, _ = ndimage.label(positive)
    sizes = np.bincount(labels.ravel())[1:]
    return bool(len(sizes)) and float(sizes.max()) > _ONE_PART * float(sizes.sum())


def litres(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Return the volume of a mask (I, J, K) [l]."""
    return float(mask.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1e6


def core_of_head(pd: NDArray[np.float32], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return what lies 20 mm deep in a head (I, J, K): mostly brain, enough to tell units.

    Args:
        pd: proton density in any unit, of a whole head with air around it.
        affine: (4, 4) voxel to world [mm].
    """
    from scripts.transforms.foreground import head_mask

    seen = np.nan_to_num(pd, nan=0.0, posinf=0.0, neginf=0.0).clip(0)
    seen = np.minimum(seen, np.percentile(seen, 99.5))
    head = head_mask(torch.from_numpy(np.ascontiguousarray(seen))[None])[0].numpy()
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    depth = ndimage.distance_transform_edt(head, sampling=spacing)
    core = depth > min(_DEPTH, 0.5 * float(depth.max()))
    return np.asarray(core)


def simulated_mask(maps: Mapping[str, NDArray[np.float32]], affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the brain (I, J, K) of a whole head, found in the MPRAGE image that its maps make.

    Args:
        maps: map -> (I, J, K) in project units, of PD and R1, and of R2* where there is one; NaN where there is
            no value.
        affine: (4, 4) voxel to world [mm].
    """
    from scripts.physics import mprage
    from scripts.prepare.tissue_maps import brain_mask

    def bounded(name: str) -> torch.Tensor:
        values = np.nan_to_num(maps[name], nan=0.0, posinf=0.0, neginf=0.0).clip(0, LIMITS[name])
        return torch.from_numpy(np.ascontiguousarray(values))

    r2star = bounded("r2star") if "r2star" in maps else torch.zeros(())
    image = mprage(bounded("pd"), bounded("r1"), r2star, **_T1W)
    return np.asarray(brain_mask(image.numpy().astype(np.float32), affine))
