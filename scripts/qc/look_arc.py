"""A subject of ARC on the quality page: the lesion on each image, T2w's edges on the others, volume and side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from scripts.data.arc import MODALITIES, choose_image
from scripts.errors import InputError
from scripts.io.resample import is_same_grid, to_grid, voxel_sizes
from scripts.qc.look import (
    COLOURS,
    PIXEL,
    Box,
    Look,
    Outline,
    Strip,
    box_around,
    nearest_to_centre,
    read_volumes,
    slices,
)
from scripts.qc.numbers import litres, median_of, ratio, window_of
from scripts.transforms.foreground import head_mask

__all__ = ["look_at_arc"]

_MASKS = Path("derivatives") / "lesion_masks"
_ENDING = "_desc-lesion_mask"
_HEIGHT, _MARGIN = 165.0, 4.0  # mm, from the vertex down; around the head
_COARSE = 2.0  # mm, about, of the head's mask
_BOTH = 0.1  # share of a lesion on either side from which it is on both
_BLUR = 1.5  # mm, before edges are looked for


def look_at_arc(root: Path, subject: str) -> Look:
    """Return what there is to see of the session with the lesion mask; see `scripts.qc.rows.write_row`.

    Raises:
        InputError: if there is no mask or no T2w, or a file is unreadable.
    """
    path, files = _files(root, subject)
    mask, images = read_volumes(path), {modality: read_volumes(file) for modality, file in files.items()}
    lesion, head = _crop(mask), _head(images["T2w"])
    box = box_around(head[0].numpy() > 0.5, head.affine, margin=_MARGIN, height=_HEIGHT)
    middle = float(box.low[0] + box.high[0]) / 2
    measures = {"lesion [ml]": 1000 * litres(float((mask > 0.5).sum()), mask.affine)}
    notes = []
    if not is_same_grid(mask, images["T2w"].affine, images["T2w"].shape[1:], tolerance=0.1):
        notes.append("the mask lies on another grid than T2w")
    side = ""
    if lesion is None:
        notes.append("the mask marks no voxel")
    else:
        box = _through(box, nearest_to_centre(lesion[0].numpy() > 0.5, lesion.affine))
        measures["lesion on the left [%]"] = left = 100 * _left_share(lesion, middle)
        side = ", left" if left > 100 * (1 - _BOTH) else ", right" if left < 100 * _BOTH else ", both sides"
        if _outside(lesion, head) > 0.5:
            notes.append("most of the lesion lies outside the head")
    for modality, image in images.items():
        measures.update(_intensities(modality, image, lesion, head))
    outline = Outline(f"lesion{side}", COLOURS["lesion"], [cut[0] for cut in slices(mask, box)])
    return Look(subject, "ARC", list(images), [path, *files.values()], _strips(images, box, outline), measures, notes)


def _files(root: Path, subject: str) -> tuple[Path, dict[str, Path]]:
    """Return the lesion mask and the images of its session, T2w first."""
    masks = sorted((root / _MASKS / subject).rglob(f"{subject}_*T2w{_ENDING}.nii*"))
    if not masks:
        raise InputError(f"{root / _MASKS / subject} holds no lesion mask (*{_ENDING}.nii.gz): restore it")
    mask = masks[0]
    anat = root / mask.parent.relative_to(root / _MASKS)
    files = {"T2w": anat / mask.name.replace(_ENDING, "")}
    for modality in MODALITIES:
        choices = [path for path in anat.glob(f"*_{modality}.nii*") if path.name.endswith((".nii", ".nii.gz"))]
        if modality != "T2w" and choices:
            files[modality] = choose_image(choices)
    return mask, files


def _head(image: MetaTensor) -> MetaTensor:
    """Return the head's mask (1, I, J, K) on a grid that is coarse enough to find it quickly."""
    steps = [max(1, round(_COARSE / side)) for side in voxel_sizes(image.affine)]
    affine = image.affine.clone()
    affine[:3, :3] *= torch.tensor(steps, dtype=affine.dtype)
    sampled = image.as_tensor()[:, :: steps[0], :: steps[1], :: steps[2]]
    return MetaTensor(head_mask(sampled).float(), affine=affine)


def _crop(mask: MetaTensor) -> MetaTensor | None:
    """Return the part of a mask that holds all it marks, None if that is nothing."""
    found = ndimage.find_objects((mask[0].numpy() > 0.5).astype(np.int8))
    if not found:
        return None
    affine = mask.affine.clone()
    corner = torch.tensor([part.start for part in found[0]], dtype=affine.dtype)
    affine[:3, 3] += affine[:3, :3] @ corner
    return MetaTensor(mask.as_tensor()[(slice(None), *found[0])], affine=affine)


def _through(box: Box, point: NDArray[np.float64]) -> Box:
    """Return the box cut at ``point``, as large as to hold it."""
    return replace(box, low=np.minimum(box.low, point - 10), high=np.maximum(box.high, point + 10), at=point)


def _left_share(lesion: MetaTensor, middle: float) -> float:
    """Return the share of the lesion at the left of the head's middle plane, x = ``middle`` [mm]."""
    index = np.argwhere(lesion[0].numpy() > 0.5)
    x = index @ lesion.affine[0, :3].numpy() + float(lesion.affine[0, 3])
    return float((x < middle).mean())


def _outside(lesion: MetaTensor, head: MetaTensor) -> float:
    marked = lesion[0].numpy() > 0.5
    inside = to_grid(head, lesion.affine, lesion.shape[1:], "nearest")[0].numpy() > 0.5
    return float((~inside[marked]).mean())


def _intensities(modality: str, image: MetaTensor, lesion: MetaTensor | None, head: MetaTensor) -> dict[str, float]:
    all_of_it = to_grid(image, head.affine, head.shape[1:])[0].numpy()
    found = {"head median": median_of(all_of_it, head[0].numpy() > 0.5)}
    if lesion is not None:
        part = to_grid(image, lesion.affine, lesion.shape[1:])[0].numpy()
        found["lesion median"] = median_of(part, lesion[0].numpy() > 0.5)
        found["lesion / head"] = ratio(found["lesion median"], found["head median"])
    return {f"{modality}: {name}": value for name, value in found.items() if value is not None}


def _strips(images: dict[str, MetaTensor], box: Box, lesion: Outline) -> list[Strip]:
    strips = []
    edges: Outline | None = None
    for modality, image in images.items():
        cuts = [cut[0] for cut in slices(image, box)]
        window = window_of(cuts)
        strips.append(Strip(modality, cuts, window, [lesion]))
        if edges is None:
            strips.append(Strip(modality, cuts, window))
            edges = Outline("edges of T2w", COLOURS["edges"], [_edges(cut, window) for cut in cuts])
        else:
            strips.append(Strip(f"{modality} against T2w", cuts, window, [edges]))
    return strips


def _edges(cut: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.bool_]:
    from skimage.feature import canny

    scaled = np.clip((cut - window[0]) / (window[1] - window[0]), 0.0, 1.0)
    found: NDArray[np.bool_] = canny(scaled, sigma=_BLUR / PIXEL, low_threshold=0.04, high_threshold=0.09)
    return found
