"""What surrounds the brain in an image of the head: fluid, skull, fat, muscle, skin, eyes, air.

Built once, in template space, as smooth fields (distances and soft masks); a subject samples them through its own
shape and turns them into layers on its own grid, crisp at any spacing. Not anatomy to measure on: it gives images
of heads what a network meets around a brain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort.anatomy import Anatomy, Shape, to_template
from scripts.cohort.lattice import Array, Grid, sample_lattice, white_lattice
from scripts.cohort.template import load_template, sample_template, sample_volume
from scripts.cohort.tissue_values import MAPS

__all__ = ["OUTER", "head_grid", "head_maps"]

# PD [p.u.], R1, R2*, R2 [1/s] and MTsat [p.u.] at 3 T in the order of MAPS. Means over voxels of a whole class by
# multi-parametric mapping are brighter bone and darker fat than a pure voxel; fat's R2 is that of a fast spin echo.
OUTER = MappingProxyType(
    {
        "muscle": (68.0, 0.85, 35.0, 24.0, 0.9),
        "fat": (68.0, 2.3, 45.0, 10.0, 0.2),
        "skin": (62.0, 0.95, 45.0, 25.0, 0.7),
        "bone": (11.0, 0.85, 90.0, 60.0, 0.1),
        "marrow": (48.0, 1.7, 60.0, 14.0, 0.2),
        "vitreous": (98.0, 0.25, 2.0, 1.0, 0.0),
    }
)

_STEP = 2.0  # mm between the nodes of the fields
_FAR = 60.0  # mm
_AIR_DEPTH = -8.0  # mm; farther out the skin's soft edge has ended, and all shares are exactly 0
_LOW, _SIZE = (-104.0, -148.0, -142.0), (105, 133, 128)
_FIELDS = ("outside", "depth", "orbit", "eye", "lens", "air", "bone", "canal", "cord")

# centre and half axes [mm MNI] of each half of the head; x < 0 is mirrored
_ORBIT = ((31.0, 50.0, -38.0), (19.0, 27.0, 17.0))
_EYE = ((32.0, 60.0, -38.0), (12.5, 12.5, 12.5))
_LENS = ((32.0, 70.5, -38.0), (4.5, 2.2, 4.5))
_AIR = (
    ((0.0, 62.0, -60.0), (8.0, 28.0, 20.0)),
    ((0.0, 54.0, -37.0), (10.0, 17.0, 9.0)),
    ((27.0, 56.0, -66.0), (12.0, 15.0, 14.0)),
    ((9.0, 84.0, -10.0), (9.0, 4.0, 8.0)),
    ((0.0, 22.0, -40.0), (11.0, 10.0, 8.0)),
    ((54.0, -34.0, -44.0), (7.0, 8.0, 12.0)),
    ((0.0, 58.0, -100.0), (20.0, 24.0, 4.0)),
    ((0.0, 8.0, -92.0), (9.0, 5.0, 36.0)),
)
_BONE = (((0.0, 56.0, -86.0), (24.0, 26.0, 4.0)), ((0.0, -20.0, -120.0), (17.0, 14.0, 42.0)))


@dataclass(frozen=True)
class _Head:
    """Fields (len(_FIELDS), *_SIZE) on nodes of `_STEP` mm; to the depth `_FAR` is added, so that 0 is far out."""

    fields: torch.Tensor

    def sample(self, points: Array, names: Sequence[str] = _FIELDS) -> dict[str, Array]:
        """Interpolate fields at ``points`` (3, N) [mm MNI]; returns (N,) each, far out beyond the nodes."""
        index = (points - np.asarray(_LOW, np.float32)[:, None]) / np.float32(_STEP)
        chosen = self.fields[[_FIELDS.index(name) for name in names]]
        found = dict(zip(names, sample_volume(chosen, index), strict=True))
        found["depth"] -= _FAR
        return found


def head_grid(spacing: float) -> Grid:
    """Return the isotropic grid [mm] on which whole heads are simulated."""
    size, low = (200.0, 252.0, 236.0), (-100.0, -138.0, -138.0)
    counts = [int(np.ceil(length / spacing)) for length in size]
    return Grid((counts[0], counts[1], counts[2]), spacing, low)


def head_maps(
    anatomy: Anatomy,
    shape: Shape,
    brain_maps: Mapping[str, Array],
    values: Mapping[str, Array],
    rng: np.random.Generator,
) -> tuple[dict[str, Array], Array]:
    """Return maps of the whole head, those of the brain and what surrounds it, and the fluid around the brain.

    Args:
        anatomy: the brain, on a `head_grid`.
        shape: its shape.
        brain_maps: ``{map: (N,)}`` in the brain's voxels, from `paint_maps`.
        values: means of tissue ``csf``, ``white`` and those of `OUTER`, each (len(MAPS),).
        rng: draws fat in the muscle, and texture.

    Returns:
        ``{map: (I, J, K)}`` in the order of `MAPS`, PD 0 in air; and the share of fluid outside the brain
        proper, (I, J, K).
    """
    grid, head = anatomy.grid, _template_head()
    points = to_template(shape, grid).reshape(3, -1)
    outer = ~anatomy.brain & (head.sample(points, ["depth"])["depth"] > _AIR_DEPTH).reshape(grid.shape)
    points = np.ascontiguousarray(points[:, outer.reshape(-1)])
    patches, texture = sample_lattice(white_lattice(rng, 9.0, 2), grid.axes())[:, outer]
    weights = _layers(head.sample(points), patches)
    names = list(weights)
    table = np.stack([values[name] for name in names]).astype(np.float32)
    shares = np.stack([weights[name] for name in names])
    inside = np.maximum(shares.sum(0), np.float32(1e-3))
    maps = {}
    for column, name in enumerate(MAPS):
        mixed = table[:, column] @ shares
        mixed = mixed if name == "PD" else mixed / inside
        volume = np.zeros(grid.shape, np.float32)
        volume[outer] = mixed * (1.0 + np.float32(0.05) * texture)
        volume[anatomy.brain] = brain_maps[name]
        maps[name] = volume
    fluid = np.zeros(grid.shape, np.float32)
    fluid[outer] = weights["csf"]
    return maps, fluid


def _layers(fields: dict[str, Array], patches: Array) -> dict[str, Array]:
    """Return the shares of all tissues outside the brain, each (N,); their sum is 0 in air."""
    outside, depth = fields["outside"], fields["depth"]
    weights = {name: np.zeros_like(outside) for name in (*OUTER, "csf", "white")}
    total = np.zeros_like(outside)

    def lay(name: str, mask: Array) -> None:
        left = 1.0 - mask
        for others in weights.values():
            others *= left
        if name != "air":
            weights[name] += mask
        np.maximum(total, mask, out=total)

    lay("muscle", np.ones_like(outside))
    lay("fat", _step(patches - 0.9, 0.25))
    lay("fat", _step(depth - 1.8, 0.5) * _step(6.5 + 1.2 * patches - depth, 0.6))
    lay("bone", _step(outside - 3.2, 0.4) * _step(9.0 - outside, 0.5))
    lay("marrow", _step(outside - 4.9, 0.5) * _step(7.3 - outside, 0.5) * _step(patches + 0.6, 0.4))
    lay("bone", fields["bone"])
    lay("marrow", np.clip(2.0 * fields["bone"] - 1.2, 0.0, 1.0) * 0.6)
    lay("fat", fields["orbit"] * _step(outside - 4.0, 0.5))
    lay("vitreous", fields["eye"])
    lay("muscle", fields["lens"])
    lay("air", fields["air"] * _step(outside - 3.0, 0.5) * _step(depth - 4.0, 0.5))
    lay("csf", np.maximum(_step(3.2 - outside, 0.4), fields["canal"]))
    lay("white", fields["cord"])
    lay("skin", _step(2.0 - depth, 0.4))
    lay("air", 1.0 - _step(depth - 0.3, 0.4))
    return weights


def _step(value: Array, width: float) -> Array:
    """Rise from 0 to 1 over about four times ``width`` around 0."""
    return (1.0 / (1.0 + np.exp(-np.clip(value / np.float32(width), -30.0, 30.0)))).astype(np.float32)


@lru_cache(maxsize=1)
def _template_head() -> _Head:
    """Return the fields, made once per process."""
    axes = [low + _STEP * np.arange(n) for low, n in zip(_LOW, _SIZE, strict=True)]
    mesh = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    brain = sample_template(load_template(1.0), mesh.reshape(3, -1), ["brain"])["brain"].reshape(_SIZE) > 0.5
    outside = _STEP * ndimage.distance_transform_edt(~brain)
    x, y, z = np.abs(mesh[0]), mesh[1], mesh[2]
    face = _ellipsoid(x, y, z, (0.0, 36.0, -62.0), (66.0, 58.0, 78.0))
    nose = _ellipsoid(x, y, z, (0.0, 92.0, -64.0), (13.0, 17.0, 20.0))
    neck = np.minimum(1.2 - np.hypot(x / 56.0, (y + 32.0) / 60.0), (-45.0 - z) / 20.0)
    ear = _ellipsoid(x, y, z, (84.0, -28.0, -42.0), (9.0, 14.0, 24.0))
    solid = (outside < 15.0) | (face > 0.0) | (neck > 0.2) | (nose > 0.0) | (ear > 0.0)
    head = ndimage.gaussian_filter(solid.astype(np.float32), 2.0) > 0.5
    depth = _STEP * (ndimage.distance_transform_edt(head) - ndimage.distance_transform_edt(~head))
    spine = np.where(z < -60.0, np.hypot(x, y + 42.0), 99.0)
    fields = {
        "outside": outside,
        "depth": depth + _FAR,
        "orbit": _soft(_ellipsoid(x, y, z, *_ORBIT)),
        "eye": _soft(_ellipsoid(x, y, z, *_EYE)),
        "lens": _soft(_ellipsoid(x, y, z, *_LENS)),
        "air": _soft(np.max([_ellipsoid(x, y, z, *one) for one in _AIR], axis=0)),
        "bone": _soft(np.max([_ellipsoid(x, y, z, *one) for one in _BONE], axis=0)),
        "canal": _soft((9.0 - spine) / 9.0),
        "cord": _soft((5.5 - spine) / 5.5),
    }
    stack = np.stack([fields[name] for name in _FIELDS]).astype(np.float32)
    return _Head(torch.from_numpy(stack))


def _ellipsoid(x: Array, y: Array, z: Array, centre: tuple[float, ...], half: tuple[float, ...]) -> Array:
    """Return a field that is 1 in the middle of an ellipsoid, 0 on its surface and negative outside."""
    offsets = [(axis - c) / h for axis, c, h in zip((x, y, z), centre, half, strict=True)]
    field: Array = 1.0 - np.sqrt(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2)
    return field


def _soft(field: NDArray[np.floating[Any]]) -> Array:
    """Turn such a field into a mask with a soft edge."""
    return _step(field.astype(np.float32), 0.05)
