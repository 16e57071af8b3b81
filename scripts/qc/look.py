"""What is looked at in a subject: slices through volumes in world coordinates, outlines on them, strips of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.read import read_volume
from scripts.io.resample import to_grid

__all__ = ["COLOURS", "Box", "Look", "Outline", "Strip", "box_around", "nearest_to_centre", "read_volumes", "slices"]

PIXEL = 0.75  # mm
SIDEWAYS = 10.0  # mm from the middle to the patient's left, beside the falx and through a ventricle

COLOURS = {
    "white": "#ffd23f",
    "grey": "#ff5a4f",
    "CSF": "#37c8ff",
    "lesion": "#ff8c1a",
    "brain": "#43d17a",
    "edges": "#39e600",
}
"""Of outlines, on the pictures and in the legend."""

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Box:
    """What the slices show: ``low`` and ``high`` corner (3,) and the point ``at`` (3,) that they cut, RAS [mm]."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    at: NDArray[np.float64]


@dataclass(frozen=True)
class Outline:
    """Lines on a strip: legend, colour, and per slice an image (H, W) whose level 0.5 is drawn, or marks (bool)."""

    name: str
    colour: str
    slices: Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Strip:
    """One row of a picture: title, three slices (H, W) in any unit, the window shown as black to white, outlines."""

    title: str
    slices: Sequence[Image]
    window: tuple[float, float]
    outlines: Sequence[Outline] = ()


@dataclass(frozen=True)
class Look:
    """All that a row is made of; see `scripts.qc.rows.Row`."""

    name: str
    group: str
    images: Sequence[str]
    files: Sequence[Path]
    strips: Sequence[Strip]
    measures: Mapping[str, float]
    notes: Sequence[str] = field(default_factory=list)


def read_volumes(*paths: Path) -> MetaTensor:
    """Return volumes of one grid as (C, I, J, K) float32 in RAS+ order; NaN and infinite voxels are 0.

    Raises:
        InputError: if one is unreadable, or has another shape than the first.
    """
    read = [read_volume(path, nan="zero") for path in paths]
    for (voxels, _), path in zip(read, paths, strict=True):
        if voxels.shape != read[0][0].shape:
            raise InputError(f"{path} lies on another grid than {paths[0].name}: bring them to one")
    stacked = torch.from_numpy(np.stack([voxels for voxels, _ in read]))
    return MetaTensor(stacked, affine=torch.from_numpy(read[0][1]))


def box_around(mask: NDArray[np.bool_], affine: Any, *, margin: float, height: float | None = None) -> Box:
    """Return the box around what ``mask`` (I, J, K) marks, cut in its middle, sagittally a little left of it.

    Args:
        mask: not empty.
        affine: (4, 4) voxel to world of the mask [mm].
        margin: around it [mm].
        height: at most, from the top down [mm]; a neck is cut off.
    """
    points = _world(mask, affine)
    low, high = points.min(0) - margin, points.max(0) + margin
    if height is not None:
        low[2] = max(low[2], high[2] - height)
        points = points[points[:, 2] >= low[2]]
    return Box(low, high, points.mean(0) - (SIDEWAYS, 0.0, 0.0))


def nearest_to_centre(mask: NDArray[np.bool_], affine: Any) -> NDArray[np.float64]:
    """Return the point (3,) [mm] of what ``mask`` (I, J, K) marks that is nearest to its centre of mass."""
    points = _world(mask, affine)
    return points[np.square(points - points.mean(0)).sum(1).argmin()]


def slices(volume: MetaTensor, box: Box) -> list[NDArray[np.float32]]:
    """Return the axial, coronal and sagittal slice (C, H, W) of a volume (C, I, J, K) at ``box.at``.

    Seen as in radiology: the patient's right is on the left, of the sagittal slice the front. Pixels are
    square, of `PIXEL` mm, interpolated linearly in world coordinates; 0 outside the volume.
    """
    cut = []
    for across, down in ((0, 1), (0, 2), (1, 2)):
        affine = np.eye(4)
        affine[:3, :3] = 0.0
        affine[across, 0] = affine[down, 1] = -PIXEL
        through = 3 - across - down
        affine[through, 2] = PIXEL
        affine[:3, 3] = box.high
        affine[through, 3] = box.at[through]
        shape = [int(np.ceil((box.high[axis] - box.low[axis]) / PIXEL)) for axis in (across, down)]
        plane = to_grid(volume, affine, (*shape, 1))
        cut.append(np.ascontiguousarray(plane.as_tensor().numpy()[..., 0].transpose(0, 2, 1)))
    return cut


def _world(mask: NDArray[np.bool_], affine: Any) -> NDArray[np.float64]:
    matrix = np.asarray(affine, dtype=np.float64)
    return np.argwhere(mask) @ matrix[:3, :3].T + matrix[:3, 3]
