"""Label maps of individual people's heads: finding, reading and mending them.

FreeSurfer's ids, as in SynthSeg's training label maps (whole heads) or any aseg or aparc+aseg of FreeSurfer (brain
only). A map is brought to RAS order, cut to the head, and named by `scripts.cohort.label_tissues`.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort.label_tissues import AIR, BRAIN, CODES, to_tissues
from scripts.cohort.lattice import Array64
from scripts.errors import InputError

__all__ = ["LabelMap", "digest", "find_label_maps", "read_label_map"]

_ENDINGS = (".nii.gz", ".nii", ".mgz")
_SPECK = 30  # voxels of air inside the head, or of tissue outside, that a segmentation left there
_CANAL = 4.0  # mm below brain stem and cerebellum from which fluid is that of the spine
_BRIDGE = 2  # voxels; fluid that a bridge of less than two times this joins to the brain is none of its
_SULCUS = 4.0  # mm; a brain without fluid around it gets that of its sulci, by closing
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelMap:
    """One person's head.

    Attributes:
        name: of the file, without its ending.
        tissues: (I, J, K) uint8, codes of `scripts.cohort.label_tissues`, in RAS order, cut to the head.
        spacing: (3,) of its voxels [mm].
        is_whole: whether it holds what surrounds the brain.
    """

    name: str
    tissues: NDArray[np.uint8]
    spacing: tuple[float, float, float]
    is_whole: bool

    @property
    def centre(self) -> Array64:
        """Middle of the brain's bounding box, in voxels (3,)."""
        low, high = self.brain_box
        middle: Array64 = (low + high) / 2
        return middle

    @property
    def brain_box(self) -> tuple[Array64, Array64]:
        """First and last voxel of the brain along each axis, (3,) each."""
        brain = BRAIN[self.tissues]
        hits = [np.flatnonzero(brain.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
        return np.array([hit[0] for hit in hits], float), np.array([hit[-1] for hit in hits], float)


def find_label_maps(folder: str | Path) -> dict[str, Path]:
    """Return the label maps of a folder by the names of their files without ending, sorted.

    Raises:
        InputError: if there is none, or two have one name.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"label_maps {root} is no folder: give one with label maps, {', '.join(_ENDINGS)}")
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        ending = next((end for end in _ENDINGS if path.name.lower().endswith(end)), None)
        if ending is None or path.name.startswith("."):
            continue
        name = path.name[: -len(ending)]
        if name in found:
            raise InputError(f"{path} and {found[name].name} are both of {name}: keep one")
        found[name] = path
    if not found:
        raise InputError(f"label_maps {root} holds no label map: expected files that end with {', '.join(_ENDINGS)}")
    return found


def digest(paths: dict[str, Path]) -> str:
    """Return how many files there are and a hash of their names and bytes: what heads made of them depend on."""
    content = hashlib.sha256()
    for name, path in paths.items():
        content.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"{len(paths)}, sha256 {content.hexdigest()[:16]}"


def read_label_map(path: Path, name: str) -> LabelMap:
    """Return a label map, mended: specks are taken out, and fluid of the spine told from that of the brain.

    Raises:
        InputError: if the file is unreadable, is no volume, or most of its labels are unknown, or it has no brain.
    """
    try:
        image = nib.as_closest_canonical(nib.load(path))
        labels = np.rint(np.asarray(image.dataobj, dtype=np.float32)).astype(np.int32)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image ({error}): restore or remove it") from error
    labels = labels[..., 0] if labels.ndim == 4 and labels.shape[3] == 1 else labels
    if labels.ndim != 3:
        raise InputError(f"{path} has shape {labels.shape}: give a volume of labels, or remove it")
    tissues, n_unknown = to_tissues(labels)
    n_labels = int(np.count_nonzero(labels))
    if 2 * n_unknown > n_labels or not n_labels:
        raise InputError(
            f"{path} has unknown labels in {n_unknown} of {n_labels} voxels: give label maps with FreeSurfer's ids"
        )
    if n_unknown:
        logger.warning("%s: %d of %d labelled voxels have an unknown id, taken as air", path.name, n_unknown, n_labels)
    if not BRAIN[tissues].any():
        raise InputError(f"{path} has labels outside the brain only: give label maps of heads, or remove it")
    width = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    spacing = (width[0], width[1], width[2])
    is_whole = bool((~BRAIN[tissues] & (tissues != AIR)).sum() > 0.1 * BRAIN[tissues].sum())
    if not is_whole:
        tissues[~BRAIN[tissues]] = AIR
    tissues = _cut(tissues)
    tissues = _name_canal(_mend(tissues), spacing) if is_whole else _add_fluid(_mend(tissues), spacing)
    return LabelMap(name, np.ascontiguousarray(_cut(tissues)), spacing, is_whole)


def _cut(tissues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what lies in the bounding box of all tissue."""
    (box,) = ndimage.find_objects((tissues != AIR).astype(np.uint8))
    cut: NDArray[np.uint8] = tissues[box]
    return cut


def _mend(tissues: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill small holes, by the largest code beside them, and remove what is not connected with the head."""
    parts, _ = ndimage.label(tissues != AIR)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    mended: NDArray[np.uint8] = np.where(parts == sizes.argmax(), tissues, AIR).astype(np.uint8)
    holes, _ = ndimage.label(np.pad(mended == AIR, 1, constant_values=True))
    small = np.bincount(holes.ravel()) < _SPECK
    left = np.argwhere(small[holes])
    padded = np.pad(mended, 1)
    steps = np.argwhere(np.ones((3, 3, 3))) - 1
    for _ in range(3):
        around = left[:, None, :] + steps
        largest = padded[tuple(np.moveaxis(around, 2, 0))].max(axis=1)
        padded[tuple(left.T)] = largest
        left = left[largest == AIR]
    return padded[1:-1, 1:-1, 1:-1]


def _name_canal(tissues: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Call fluid that is none of the brain's that of the spine: below brain stem and cerebellum, and in islands."""
    parts = [CODES[name] for name in ("brainstem", "cerebellar_grey", "cerebellar_white", "white", "grey")]
    lowest = int(np.flatnonzero(np.isin(tissues, parts).any(axis=(0, 1)))[0])
    below = tissues[:, :, : max(0, lowest - round(_CANAL / spacing[2]))]
    below[below == CODES["csf"]] = CODES["canal"]
    brain = BRAIN[tissues]
    (box,) = ndimage.find_objects(brain.astype(np.uint8))
    brain, within = brain[box], tissues[box]
    around = ndimage.generate_binary_structure(3, 1)
    islands, _ = ndimage.label(ndimage.binary_erosion(brain, around, iterations=_BRIDGE, border_value=1))
    sizes = np.bincount(islands.ravel())
    sizes[0] = 0
    if sizes.any():
        kept = ndimage.binary_dilation(islands == sizes.argmax(), around, iterations=_BRIDGE + 2)
        within[~kept & (within == CODES["csf"])] = CODES["canal"]
    return tissues


def _add_fluid(tissues: NDArray[np.uint8], spacing: tuple[float, float, float]) -> NDArray[np.uint8]:
    """Fill the sulci of a brain without labels around it with fluid, and lay a voxel of it around the brain."""
    radius = max(1, round(_SULCUS / min(spacing)))
    padded = np.pad(tissues, radius + 2)
    around = ndimage.generate_binary_structure(3, 1)
    brain = ndimage.binary_closing(padded != AIR, around, iterations=radius)
    brain = ndimage.binary_fill_holes(ndimage.binary_dilation(brain, around))
    padded[brain & (padded == AIR)] = CODES["csf"]
    return padded
