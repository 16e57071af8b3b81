"""The MNI152 brain that nilearn carries, as the channels from which every subject is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from scripts.cohort.lattice import Array
from scripts.errors import InputError

__all__ = ["NUCLEI", "TISSUES", "Template", "load_template", "sample_template"]

NUCLEI = ("caudate", "putamen", "thalamus", "pallidum")
TISSUES = ("grey", "white", "csf", *NUCLEI)
CHANNELS = (*TISSUES, "brain", "folding", "ventricle", "regional")
PULL_STEP = 3

Triple = tuple[float, float, float]
# Ellipsoids in the right hemisphere, mirrored to the left: centre [mm MNI], half axes [mm], turn about z
# [degrees, anterior end towards the midline], fitted by eye to the template's own T1 and grey-matter maps.
_SHAPES: dict[str, tuple[tuple[Triple, Triple, float], ...]] = {
    "pallidum": (((18.5, -4.5, -1.0), (4.6, 10.0, 5.8), 27.0),),
    "putamen": (((26.5, 2.5, 1.0), (6.6, 17.5, 12.0), 20.0),),
    "caudate": (((12.5, 12.0, 4.0), (8.0, 13.0, 15.0), 12.0), ((16.0, -4.0, 19.0), (5.5, 16.0, 7.0), 12.0)),
    "thalamus": (((11.5, -19.0, 7.0), (11.5, 14.5, 10.5), 32.0),),
}
# Blobs (centre |x|, y, z, radius [mm], relative change of R1): myelin-rich primary cortex is higher, the
# medial temporal lobe lower; deep white matter higher, cerebellum lower (regional table of facts 4a).
_GREY_BLOBS: tuple[tuple[float, float, float, float, float], ...] = (
    (35.0, -22.0, 55.0, 16.0, 0.06),
    (8.0, -88.0, 2.0, 18.0, 0.07),
    (46.0, -20.0, 8.0, 12.0, 0.05),
    (25.0, -14.0, -19.0, 13.0, -0.13),
    (40.0, 10.0, -32.0, 20.0, -0.05),
)
_WHITE_BLOBS: tuple[tuple[float, float, float, float, float], ...] = (
    (0.0, 0.0, 18.0, 38.0, 0.05),
    (20.0, -62.0, -38.0, 28.0, -0.09),
    (0.0, -26.0, -40.0, 18.0, -0.07),
    (42.0, -10.0, -25.0, 25.0, -0.03),
)


@dataclass(frozen=True)
class Template:
    """The average brain, on 1 mm RAS voxels.

    Attributes:
        channels: (C, I, J, K) in the order of `CHANNELS`.
        origin: MNI coordinates [mm] of voxel 0.
        pull: (3, I', J', K') direction towards the ventricles, at most 1 long, on voxels of `PULL_STEP` mm.
    """

    channels: torch.Tensor
    origin: Triple
    pull: Array


@lru_cache(maxsize=3)
def load_template(spacing: float = 1.0) -> Template:
    """Return the template, smoothed for sampling at ``spacing`` [mm]; made once per process.

    The maps are ICBM 2009a nonlinear symmetric averages (T1, grey, white), 1 mm. The average's cerebrospinal
    fluid is what remains of the brain; grey matter around the ventricles, an artefact of fluid mixed with
    white matter, is split into these two by its T1 intensity, and the brain stem's is mostly white matter.
    """
    if spacing > 1.0:
        sharp = load_template(1.0)
        sigma = 0.4 * math.sqrt(spacing**2 - 1.0)
        stack = sharp.channels.numpy().copy()
        for plane in stack:
            ndimage.gaussian_filter(plane, sigma, output=plane, truncate=3.0)
        return Template(torch.from_numpy(stack), sharp.origin, sharp.pull)
    t1, grey, white = (_read(kind) for kind in ("t1", "gm", "wm"))
    origin, box = _brain_box(t1)
    t1, grey, white = t1[box], grey[box], white[box]
    stack = np.zeros((len(CHANNELS), *t1.shape), np.float32)
    planes = dict(zip(CHANNELS, stack, strict=True))
    planes["brain"][:] = t1 > 0
    planes["grey"][:], planes["white"][:] = grey * planes["brain"], white * planes["brain"]
    planes["csf"][:] = np.clip(planes["brain"] - grey - white, 0.0, 1.0)
    mesh = _coordinates(t1.shape, origin)
    planes["regional"][:] = _regional(grey, white, *mesh)
    planes["folding"][:] = 1.0 - _ellipsoid(*mesh, (0.0, -18.0, -12.0), (30.0, 30.0, 36.0), 0.0, edge=5.0)
    stem = 0.6 * planes["grey"] * _ellipsoid(*mesh, (0.0, -27.0, -36.0), (17.0, 16.0, 28.0), 0.0, edge=3.0)
    planes["grey"] -= stem
    planes["white"] += stem
    _carve_centre(t1, planes, origin)
    return Template(torch.from_numpy(stack), origin, _pull(planes["ventricle"]))


def sample_template(template: Template, points: Array, names: Sequence[str]) -> dict[str, Array]:
    """Interpolate channels trilinearly at ``points`` (3, N) [mm MNI]; returns (N,) each, 0 outside."""
    chosen = template.channels[[CHANNELS.index(name) for name in names]]
    values = sample_volume(chosen, points - np.asarray(template.origin, np.float32)[:, None])
    return dict(zip(names, values, strict=True))


def sample_volume(volume: torch.Tensor, index: Array) -> Array:
    """Interpolate ``volume`` (C, I, J, K) at voxel positions ``index`` (3, N); returns (C, N), 0 outside."""
    size = torch.tensor(volume.shape[1:], dtype=torch.float32)
    place = torch.from_numpy(np.ascontiguousarray(index.T)) * (2.0 / (size - 1.0)) - 1.0
    found = torch.nn.functional.grid_sample(volume[None], place.flip(-1)[None, :, None, None], align_corners=True)
    values: Array = found[0, :, :, 0, 0].numpy()
    return values


def sample_pull(template: Template, points: Array) -> Array:
    """Interpolate the direction towards the ventricles at ``points`` (3, N) [mm MNI]; returns (3, N)."""
    first = np.asarray(template.origin, np.float32)[:, None] + np.float32((PULL_STEP - 1) / 2.0)
    return sample_volume(torch.from_numpy(template.pull), ((points - first) / PULL_STEP).astype(np.float32))


def _read(kind: str) -> Array:
    """Read one of nilearn's maps, 0 to 1, without importing nilearn, which takes seconds."""
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise InputError("the template brain comes with the package nilearn: install nilearn")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    image = nib.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
    return np.asarray(image.dataobj, dtype=np.float32) / np.float32(255.0)


def _brain_box(t1: Array) -> tuple[Triple, tuple[slice, ...]]:
    """Origin [mm] and slices of the brain's bounding box with one voxel around it (voxel 0: -98 -134 -72)."""
    where = ndimage.find_objects((t1 > 0).astype(np.int8))[0]
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in where)
    return (box[0].start - 98.0, box[1].start - 134.0, box[2].start - 72.0), box


def _coordinates(shape: tuple[int, ...], origin: Triple) -> tuple[Array, Array, Array]:
    """Open mesh of MNI coordinates; x is the distance from the midline, as the template is symmetric."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (
        np.abs(x + origin[0]).astype(np.float32),
        (y + origin[1]).astype(np.float32),
        (z + origin[2]).astype(np.float32),
    )


def _carve_centre(t1: Array, planes: dict[str, Array], origin: Triple) -> None:
    """Mark the ventricles, clean their walls and set in the deep nuclei; all lie in a central box."""
    low, high = (-48.0, -64.0, -20.0), (48.0, 42.0, 40.0)
    box = tuple(slice(int(a - o), int(b - o)) for a, b, o in zip(low, high, origin, strict=True))
    inner, t1 = {name: plane[box] for name, plane in planes.items()}, t1[box]
    mesh = _coordinates(t1.shape, low)
    inner["ventricle"][:] = _ventricles(inner["csf"], *mesh)
    nuclei = _nuclei(t1, inner["grey"], *mesh)
    deep = sum(nuclei.values(), np.zeros_like(t1))
    _clean_ventricle_wall(t1, inner, deep)
    for name in ("grey", "white", "csf"):
        inner[name] *= 1.0 - deep
    for name, mask in nuclei.items():
        inner[name][:] = mask


def _ventricles(csf: Array, x: Array, y: Array, z: Array) -> Array:
    """Soft mask of the lateral and third ventricles: fluid connected inside a central box."""
    box = (x < 42) & (y > -58) & (y < 36) & (z > -16) & (z < 34) & ~((y < -27) & (x < 9)) & ~((z < 0) & (x < 15))
    labels, _ = ndimage.label((csf > 0.6) & box)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    core = np.isin(labels, np.flatnonzero(sizes > 300))
    near = ndimage.binary_dilation(core, iterations=2)
    mask: Array = np.where(near, csf, 0.0).astype(np.float32)
    return mask


def _nuclei(t1: Array, grey: Array, x: Array, y: Array, z: Array) -> dict[str, Array]:
    """Soft masks of the deep nuclei: ellipsoids, gated by the template's intensities, in all at most 1."""
    gates = {
        "pallidum": _sigmoid((0.87 - t1) / 0.01) * _sigmoid((t1 - 0.7) / 0.01),
        "putamen": _sigmoid((grey - 0.35) / 0.05),
        "caudate": _sigmoid((grey - 0.45) / 0.06) * _sigmoid((t1 - 0.58) / 0.015),
        "thalamus": _sigmoid((0.87 - t1) / 0.012) * _sigmoid((t1 - 0.58) / 0.015),
    }
    free = np.ones_like(t1)
    masks: dict[str, Array] = {}
    for name, ellipsoids in _SHAPES.items():
        shape = np.max([_ellipsoid(x, y, z, *one) for one in ellipsoids], axis=0)
        masks[name] = (free * shape * gates[name]).astype(np.float32)
        free = free - masks[name]
    return masks


def _ellipsoid(x: Array, y: Array, z: Array, centre: Triple, half: Triple, turn: float, edge: float = 0.5) -> Array:
    """Soft indicator (1 inside, its edge soft over ``edge`` mm) of a turned ellipsoid."""
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    across, along = cos * dx + sin * dy, cos * dy - sin * dx
    radius = np.sqrt((across / half[0]) ** 2 + (along / half[1]) ** 2 + (dz / half[2]) ** 2)
    return _sigmoid((1.0 - radius) * min(half) / edge)


def _clean_ventricle_wall(t1: Array, planes: dict[str, Array], deep: Array) -> None:
    """Replace grey matter within 3 mm of the ventricles by white matter and fluid in the ratio T1 tells."""
    near = ndimage.binary_dilation(planes["ventricle"] > 0.4, iterations=3)
    wall = ndimage.gaussian_filter(near.astype(np.float32), 0.7)
    moved = planes["grey"] * wall * (1.0 - np.clip(3.0 * deep, 0.0, 1.0))
    share = np.clip((t1 - 0.28) / (0.84 - 0.28), 0.0, 1.0)
    planes["grey"] -= moved
    planes["white"] += moved * share
    planes["csf"] += moved * (1.0 - share)


def _regional(grey: Array, white: Array, x: Array, y: Array, z: Array) -> Array:
    """Relative change of R1 with place, the cortex's or the white matter's by share."""
    cortex, white_matter = _blobs(_GREY_BLOBS, x, y, z), _blobs(_WHITE_BLOBS, x, y, z)
    share = grey / np.maximum(grey + white, np.float32(0.05))
    regional: Array = white_matter + share * (cortex - white_matter)
    return regional


def _blobs(blobs: Sequence[tuple[float, float, float, float, float]], x: Array, y: Array, z: Array) -> Array:
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.float32)
    for bx, by, bz, radius, gain in blobs:
        width = 2.0 * (radius / 1.5) ** 2
        along = [np.exp(-((axis - centre) ** 2) / width) for axis, centre in ((x, bx), (y, by), (z, bz))]
        total += (gain * along[0] * along[1]) * along[2]
    return total


def _pull(ventricle: Array) -> Array:
    """Gradient of the blurred ventricles, scaled to a largest length of 1: it points into them."""
    whole = [n // PULL_STEP * PULL_STEP for n in ventricle.shape]
    blocks = ventricle[: whole[0], : whole[1], : whole[2]]
    split = [size for n in whole for size in (n // PULL_STEP, PULL_STEP)]
    coarse = blocks.reshape(split).mean((1, 3, 5))
    gradient = np.stack(np.gradient(ndimage.gaussian_filter(coarse, 6.0 / PULL_STEP)))
    return (gradient / np.sqrt((gradient**2).sum(0)).max()).astype(np.float32)


def _sigmoid(value: Array) -> Array:
    return (1.0 / (1.0 + np.exp(-np.clip(value, -40.0, 40.0)))).astype(np.float32)
