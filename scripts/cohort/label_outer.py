"""What a label map of a head leaves open around the brain: where soft tissue is fat, where muscle.

Fat lies under the skin and in the orbits, and in patches between muscles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort.label_maps import LabelMap
from scripts.cohort.label_tissues import AIR, CODES
from scripts.cohort.lattice import Array64, Box, sample_lattice, white_lattice

__all__ = ["split_soft_tissue"]

_SKIN = 2.0  # mm of what is labelled as skin; the rest is fat
_FAT, _PATCH = 4.0, 2.0  # mm of fat under that, and how much patches add
_REACH = 9  # mm
_ORBIT, _BEHIND = 23.0, 9.0  # mm: radius of the fat, and how far behind the eye's middle it is centred


def split_soft_tissue(person: LabelMap, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a person's tissues (I, J, K) with fat where soft tissue and the inner part of the skin are fat."""
    tissues = person.tissues.copy()
    spacing = float(np.mean(person.spacing))
    skin, soft = tissues == CODES["skin"], tissues == CODES["muscle"]
    if not soft.any():
        return tissues
    size = np.array(tissues.shape) * person.spacing
    box: Box = ((0.0, 0.0, 0.0), (size[0], size[1], size[2]))
    axes: list[Array64] = [step * np.arange(n) for n, step in zip(tissues.shape, person.spacing, strict=True)]
    patches = sample_lattice(white_lattice(rng, 9.0, 1, box), axes)[0]
    depth = _layers(skin, soft, round(_REACH / spacing)) * np.float32(spacing)
    outermost = _grow(tissues == AIR, skin, round(_SKIN / spacing))
    fat = soft & ((depth < _FAT + _PATCH * patches) | (patches > 1.0) | _orbits(tissues, person.spacing))
    tissues[fat | (skin & ~outermost)] = CODES["fat"]
    return tissues


def _layers(seed: NDArray[np.bool_], within: NDArray[np.bool_], most: int) -> NDArray[np.uint8]:
    """Return in how many steps of one voxel ``seed`` reaches each voxel of ``within``, most + 1 where not at all."""
    steps = np.full(seed.shape, most + 1, np.uint8)
    reached = seed
    for step in range(1, most + 1):
        grown = _grow(reached, within, 1, connectivity=1 + 2 * (step % 2))
        steps[grown & ~reached] = step
        reached = grown
    return steps


def _grow(seed: NDArray[np.bool_], within: NDArray[np.bool_], steps: int, connectivity: int = 1) -> NDArray[np.bool_]:
    around = ndimage.generate_binary_structure(3, min(connectivity, 3))
    grown: NDArray[np.bool_] = ndimage.binary_dilation(seed, around, iterations=max(steps, 1), mask=seed | within)
    return grown


def _orbits(tissues: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Return where the orbits are, (I, J, K): balls behind the middles of the two eyes."""
    eyes = np.argwhere(tissues == CODES["vitreous"])
    found = np.zeros(tissues.shape, bool)
    if not len(eyes):
        return found
    middle = eyes[:, 0].mean()
    for eye in (eyes[eyes[:, 0] <= middle], eyes[eyes[:, 0] > middle]):
        if len(eye):
            centre = eye.mean(0) * spacing - (0.0, _BEHIND, 0.0)
            offsets = [step * np.arange(n) - c for n, step, c in zip(tissues.shape, spacing, centre, strict=True)]
            x, y, z = np.ix_(*(offset**2 for offset in offsets))
            found |= x + y + z < _ORBIT**2
    return found
