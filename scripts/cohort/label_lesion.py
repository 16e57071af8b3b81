"""Real lesions, masks in MNI space, laid into heads that are made from label maps.

Masks of acute strokes are smaller than chronic lesions, so a lesion is chosen by volume: the one of some drawn at
random that comes nearest to a volume drawn from those of chronic strokes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort.label_head import Place
from scripts.cohort.label_maps import LabelMap
from scripts.cohort.label_shape import BOX
from scripts.cohort.label_tissues import CODES
from scripts.cohort.lattice import Array, Array64, sample_lattice, white_lattice
from scripts.cohort.lesion import Lesion, hollow, ramp
from scripts.errors import InputError
from scripts.io.read import read_volume

__all__ = ["draw_lesion_masks", "find_lesion_masks", "lay_lesion", "to_mni"]

_ENDINGS = (".nii.gz", ".nii")
_MEDIAN_ML, _SPREAD = 60.0, 1.0  # log-normal; chronic lesions with aphasia: a fifth below 25 ml, a fifth above 140 ml
_RANGE_ML = (2.0, 350.0)
_LEAST_ML = 0.05  # of a mask that is worth laying
_TRIED = 16  # masks read to choose from
_AROUND = 6  # voxels around a mask within which its distance is known
# Cerebrum of the ICBM 2009 average brain [mm MNI], and the pitch of its line from cerebellum to caudate nuclei.
_CEREBRUM = np.array([[-71.0, -106.0, -51.0], [71.0, 73.0, 82.0]])
_PITCH = np.arctan2(44.0, 72.0)


def find_lesion_masks(folder: str | Path) -> tuple[Path, ...]:
    """Return the masks of a folder, sorted: NIfTI files named ``*lesion*``, or all where none is named so.

    Raises:
        InputError: if there is none.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"lesions {root} is no folder: give one with masks of lesions in MNI space")
    found = [path for path in sorted(root.iterdir()) if path.name.lower().endswith(_ENDINGS)]
    named = [path for path in found if "lesion" in path.name.lower()]
    if not found:
        raise InputError(f"lesions {root} holds no mask: expected NIfTI files of lesions in MNI space")
    return tuple(named or found)


def draw_lesion_masks(masks: Sequence[Path], rng: np.random.Generator) -> list[tuple[NDArray[np.bool_], Array64]]:
    """Draw masks whose volumes come near to that of a chronic lesion, the nearest first.

    Args:
        masks: to choose from.
        rng: draws which are looked at, and the volume.

    Returns:
        Masks (I, J, K) in RAS order, and their affines (4, 4) from voxels to MNI space [mm].

    Raises:
        InputError: if none of those looked at is a mask in MNI space.
    """
    wanted = np.exp(np.clip(rng.normal(np.log(_MEDIAN_ML), _SPREAD), *np.log(_RANGE_ML)))
    some = [masks[index] for index in rng.permutation(len(masks))[:_TRIED]]
    found = []
    for path in some:
        values, affine = read_volume(path)
        mask = values > 0
        is_binary = mask.any() and float(values.max()) == float(values[mask].min())
        volume = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000.0
        if is_binary and _LEAST_ML < volume < _RANGE_ML[1]:
            found.append((abs(np.log(volume / wanted)), mask, affine))
    if not found:
        raise InputError(
            f"{some[0]} and {len(some) - 1} more hold no lesion: give binary masks of lesions in MNI space"
        )
    return [(mask, affine) for _, mask, affine in sorted(found, key=lambda one: one[0])]


def to_mni(person: LabelMap) -> Array64:
    """Return about where voxels of a label map lie in MNI space, (3, 4): turned, and fitted by the cerebrum's box."""
    spacing = np.array(person.spacing)
    cerebrum = np.argwhere(np.isin(person.tissues, [CODES["grey"], CODES["white"]])) * spacing
    angle = _pitch(person, spacing) - _PITCH
    turn = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    turned = cerebrum @ turn.T
    low, high = turned.min(0), turned.max(0)
    scale = (_CEREBRUM[1] - _CEREBRUM[0]) / np.maximum(high - low, 1e-3)
    matrix = np.diag(scale) @ turn @ np.diag(spacing)
    return np.column_stack([matrix, _CEREBRUM[0] - scale * low])


def lay_lesion(
    mask: NDArray[np.bool_], affine: Array64, person: LabelMap, place: Place, fluid: Array, rng: np.random.Generator
) -> Lesion:
    """Return a lesion in the N voxels of a head, within its parenchyma.

    Args:
        mask: of the lesion, (I, J, K).
        affine: (4, 4) of the mask, from voxels to MNI space.
        person: whose head.
        place: of the head's voxels in its label map.
        fluid: (N,) share of fluid, and of what is not brain.
        rng: draws the cavity and the unevenness of its border.
    """
    depth, index = _depths(mask, affine, person, place.points)
    last = np.array(depth.shape, np.float32)[:, None]
    near: NDArray[np.bool_] = np.all((index > 0.0) & (index < last - 1.0), axis=0)
    found = ndimage.map_coordinates(depth, index[:, near], order=1, mode="nearest")
    rough, fine = _uneven(place, near, rng)
    border: Array = found + np.float32(0.6) * fine[0]
    extent = (ramp(border) * (1.0 - np.clip(fluid[near], 0.0, 1.0))).astype(np.float32)
    hollowed = hollow(extent, border, float(rng.uniform(0.3, 0.9)), rough, fine[1])
    parts = np.zeros((3, len(near)), np.float32)
    parts[:, near] = hollowed.extent, hollowed.cavity, hollowed.gliosis
    return Lesion(*parts)


def _depths(mask: NDArray[np.bool_], affine: Array64, person: LabelMap, points: Array) -> tuple[Array, Array]:
    """Return distances [mm] from a mask's border, (I, J, K), positive inside; and where points (3, N) lie in them."""
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    width = np.linalg.norm(affine[:3, :3], axis=0)
    inner = np.pad(mask[box], _AROUND)
    depth = ndimage.distance_transform_edt(inner, width) - ndimage.distance_transform_edt(~inner, width)
    start = np.array([part.start - _AROUND for part in box])
    matrix = np.linalg.inv(affine) @ np.vstack([to_mni(person), (0.0, 0.0, 0.0, 1.0)])
    index: Array = matrix[:3, :3].astype(np.float32) @ points + (matrix[:3, 3] - start).astype(np.float32)[:, None]
    return depth.astype(np.float32), index


def _uneven(place: Place, near: NDArray[np.bool_], rng: np.random.Generator) -> tuple[Array, Array]:
    """Return two rough and two fine random fields, (2, M) each, in the M of N voxels that are ``near``."""
    volume = np.zeros(place.inside.shape, bool)
    volume[place.inside] = near
    rough, fine = (white_lattice(rng, spacing, 2, BOX) for spacing in (15.0, 5.0))
    boxes = ndimage.find_objects(volume.astype(np.uint8))
    if not boxes:
        return np.zeros((2, 0), np.float32), np.zeros((2, 0), np.float32)
    axes = [axis[part] for axis, part in zip(place.box_grid.axes(), boxes[0], strict=True)]
    inside = volume[boxes[0]]
    return sample_lattice(rough, axes)[:, inside], sample_lattice(fine, axes)[:, inside]


def _pitch(person: LabelMap, spacing: Array64) -> float:
    """Return the angle [rad] in the sagittal plane of the line from the cerebellum to the caudate nuclei."""
    ends = []
    for names in (("cerebellar_grey", "cerebellar_white"), ("caudate",)):
        found = np.argwhere(np.isin(person.tissues, [CODES[name] for name in names]))
        if not len(found):
            return float(_PITCH)
        ends.append(found.mean(0) * spacing)
    ahead = ends[1] - ends[0]
    return float(np.arctan2(ahead[2], ahead[1]))
