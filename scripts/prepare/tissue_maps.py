"""Brain and tissue classes of a T1-weighted image, by published tools, and their way to other images of the head."""

from __future__ import annotations

import functools
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.resample import to_grid, voxel_sizes
from scripts.prepare.registration import Rigid, library, to_image

__all__ = ["brain_mask", "carry_maps", "csf_to_white", "tissue_maps"]

_N4_SPACING = 6.0  # mm; a bias field is smooth, finer voxels give the same classes
_N4_ITERATIONS = (50, 50, 50)  # of each level; a fourth level's finer field takes contrast of tissue along
_BETA = 0.1  # smoothness of the Markov random field
_TOLERANCE, _ITERATIONS = 1e-5, 25
_BRIGHTEST = 99.5  # percentile of the brain's intensities; vessels are brighter
_PURE = 0.9  # share from which a voxel counts as one tissue
_MARGIN = 2  # voxels

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


def brain_mask(image: Array, affine: Matrix) -> Mask:
    """Return the brain with its fluid on a T1-weighted image, by deepbet (doi:10.1016/j.compbiomed.2024.108845).

    Args:
        image: (I, J, K) in RAS+ order.
        affine: (4, 4) voxel to world [mm].

    Returns:
        (I, J, K) bool.

    Raises:
        InputError: if deepbet is not installed, or finds no brain.
    """
    extraction = _deepbet()  # outside of the try: that it is missing is no ValueError about the image
    try:
        _, mask, _ = extraction.run(nib.Nifti1Image(image, affine))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise InputError("no brain was found: check that the image shows a head, T1-weighted") from error
    found: Mask = np.asarray(mask.dataobj) > 0.5
    if not found.any():
        raise InputError("no brain was found: check that the image shows a head, T1-weighted")
    return found


def tissue_maps(image: Array, affine: Matrix, mask: Mask) -> Array:
    """Return the shares of grey matter, white matter and CSF in each voxel of a brain on a T1-weighted image.

    The bias field is corrected by N4 (doi:10.1109/TMI.2010.2046908, SimpleITK), and the brain classified by a hidden
    Markov random field with partial volumes (doi:10.1109/42.906424, dipy). Classes are told by their brightness
    alone: of deep grey matter, the brighter nuclei come out as white matter in part.

    Args:
        image: (I, J, K) in RAS+ order.
        affine: (4, 4) voxel to world [mm].
        mask: (I, J, K) brain.

    Returns:
        (3, I, J, K) shares, which add up to 1 inside the mask and are 0 outside, in the order of SPM's c1, c2, c3.

    Raises:
        InputError: if SimpleITK or dipy is not installed, or the brain has no three classes.
    """
    try:
        from dipy.segment.tissue import TissueClassifierHMRF
    except ImportError as error:
        raise InputError("classifying tissue needs dipy: pip install -e '.[prepare]'") from error
    box = _box(mask)
    inside = mask[box]
    flat = _without_bias(image[box], affine, inside)
    _, _, shares = TissueClassifierHMRF(verbose=False).classify(
        _scaled(flat, inside), 3, _BETA, tolerance=_TOLERANCE, max_iter=_ITERATIONS
    )
    dark_to_bright = np.nan_to_num(np.moveaxis(shares, -1, 0)) * inside
    if min(float(one.sum()) for one in dark_to_bright) <= 0:
        raise InputError("the brain has not three classes of tissue: check that the image is T1-weighted")
    maps = np.zeros((3, *image.shape), dtype=np.float32)
    maps[(slice(None), *box)] = dark_to_bright[[1, 2, 0]]
    return maps


def carry_maps(maps: Array, affine: Matrix, rigid: Rigid, target_affine: Matrix, target_shape: Any) -> Array:
    """Return shares (C, I, J, K) on the grid of another image that their own was registered to.

    Args:
        maps: (C, I', J', K').
        affine: (4, 4) of ``maps``.
        rigid: from the world of ``maps`` to that of the target.
        target_affine: (4, 4) of the target's grid.
        target_shape: (3,).
    """
    given = MetaTensor(torch.from_numpy(maps), affine=torch.from_numpy(rigid.matrix @ affine))
    moved = to_grid(given, target_affine, target_shape, "bilinear")
    carried: Array = np.asarray(moved.numpy()).clip(0.0, 1.0)
    return carried


def csf_to_white(image: Array, maps: Array) -> float:
    """Return how many times as bright as white matter fluid is, by medians over the voxels of nearly one tissue.

    Args:
        image: (I, J, K).
        maps: (3, I, J, K) shares of grey matter, white matter and fluid.

    Raises:
        InputError: if there is no such voxel, or white matter has no signal.
    """
    fluid, white = (image[(maps[i] > 0) & (maps[i] >= min(_PURE, float(maps[i].max())))] for i in (2, 1))
    if not fluid.size or not white.size or float(np.median(white)) <= 0:
        raise InputError("the tissue maps show no fluid or no white matter in the image: check their registration")
    return float(np.median(fluid)) / float(np.median(white))


@functools.cache
def _deepbet() -> Any:
    try:
        from deepbet import BrainExtraction
    except ImportError as error:
        raise InputError("finding the brain needs deepbet: pip install -e '.[prepare]'") from error
    return BrainExtraction(no_gpu=True)  # on the CPU alone the same image gives the same brain everywhere


def _without_bias(image: Array, affine: Matrix, mask: Mask) -> Array:
    """Return the image divided by its bias field inside the mask."""
    sitk = library()
    whole, brain = to_image(sitk, image, affine), to_image(sitk, mask.astype(np.float32), affine)
    factors = [max(1, round(_N4_SPACING / side)) for side in voxel_sizes(affine)]
    correct = sitk.N4BiasFieldCorrectionImageFilter()
    correct.SetMaximumNumberOfIterations(_N4_ITERATIONS)
    correct.Execute(sitk.Shrink(whole, factors), sitk.Cast(sitk.Shrink(brain, factors), sitk.sitkUInt8))
    field = sitk.GetArrayFromImage(correct.GetLogBiasFieldAsImage(whole)).transpose(2, 1, 0)
    flat: Array = image / np.exp(field, dtype=np.float32)
    return flat


def _scaled(image: Array, mask: Mask) -> NDArray[np.float64]:
    """Return the image from 0 to 1 as the classifier wants it: without outliers, with faint noise outside the brain.

    The classifier would put noise of its own wherever the image is 0, another one in each run.
    """
    low, high = 0.01, float(np.percentile(image[mask], _BRIGHTEST))
    noise = np.random.default_rng(0).normal(0.001, 1e-4, image.shape)
    return np.where(mask, np.clip(image / high, low, 1.0), noise)


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    ends = []
    for axis in range(3):
        places = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        ends.append(slice(max(0, int(places[0]) - _MARGIN), int(places[-1]) + 1 + _MARGIN))
    return ends[0], ends[1], ends[2]
