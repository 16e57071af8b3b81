"""Rigid registration of two images of one head, by mutual information (SimpleITK).

World coordinates are those of NIfTI (RAS); SimpleITK's are LPS, to which images are brought by `to_image` alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError

__all__ = ["Rigid", "library", "register_rigid", "to_image"]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LEVELS = (6.0, 3.0, 1.5)  # voxels [mm], from coarse to fine
_NODS, _TILTS, _TURNS = (-30, -15, 0, 15, 30), (-15, 0, 15), (-20, 0, 20)  # about x, y, z: begins [degrees]
_BEST = 8  # begins that are followed: where little overlaps, the best may lead astray
_MOST_ANGLE, _MOST_SHIFT = 60.0, 100.0  # degrees, mm: no two scans of one session lie so far apart
_LEAST = 0.1  # mutual information [nat]: noise has 0.02, two simulated heads of 4 mm 0.7
_BINS = 32
_SAMPLES = 500_000  # voxels, evenly spread, that suffice
_BRIGHTEST = 99.5  # percentile; what is brighter is clipped, or it would leave few bins to tissue

Array = NDArray[np.float32]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Rigid:
    """A rigid transform between two images.

    Attributes:
        matrix: (4, 4) from the world of the moving image to that of the fixed one [mm]; the moving image's new
            affine is ``matrix @ affine``.
        similarity: Mattes mutual information at the end, higher is better.
        before: the same without any movement.
        centre: (3,) middle of the fixed image in the world [mm].
    """

    matrix: NDArray[np.float64]
    similarity: float
    before: float
    centre: NDArray[np.float64]

    @property
    def angle(self) -> float:
        """Rotation [degrees]."""
        cosine = (float(np.trace(self.matrix[:3, :3])) - 1) / 2
        return float(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))))

    @property
    def shift(self) -> float:
        """Distance that the middle of the fixed image is moved [mm]."""
        moved = self.matrix[:3, :3] @ self.centre + self.matrix[:3, 3]
        return float(np.linalg.norm(moved - self.centre))


def register_rigid(
    moving: Array,
    moving_affine: Matrix,
    fixed: Array,
    fixed_affine: Matrix,
    *,
    name: str = "the images",
) -> Rigid:
    """Return the rigid transform that lays one image of a head on another, of any contrast.

    Mattes' mutual information (doi:10.1109/TMI.2003.809072) is optimised from coarse to fine voxels, beginning where
    the files place the images and where their centres of mass meet, turned by several angles; the best go on.
    The same input gives the same transform.

    Args:
        moving: (I, J, K).
        moving_affine: (4, 4) voxel to world, RAS [mm].
        fixed: (I', J', K').
        fixed_affine: (4, 4).
        name: of the pair, for messages.

    Raises:
        InputError: if SimpleITK is not installed, or no plausible transform is found.
    """
    sitk = library()
    target, source = to_image(sitk, fixed, fixed_affine), to_image(sitk, moving, moving_affine)
    try:
        transform, similarity, before = _search(sitk, target, source)
    except RuntimeError as error:
        raise InputError(f"{name}: registration failed ({_short(error)}): check both images") from error
    # SimpleITK's transforms take points of the fixed image to the moving one
    inverse = np.asarray(np.linalg.inv(_LPS @ _matrix(transform) @ _LPS), dtype=np.float64)
    middle = fixed_affine @ np.array([*(np.array(fixed.shape) - 1) / 2, 1.0])
    rigid = Rigid(inverse, similarity, before, np.asarray(middle[:3], dtype=np.float64))
    failed = not similarity > max(_LEAST, 0.9 * before)
    if failed or rigid.angle > _MOST_ANGLE or rigid.shift > _MOST_SHIFT:
        raise InputError(
            f"{name}: registration found {rigid.angle:.0f} degrees and {rigid.shift:.0f} mm (mutual information "
            f"{before:.3f} before, {similarity:.3f} after): check that both show one head"
        )
    return rigid


def library() -> Any:
    """Return SimpleITK, set to one thread: sums of several threads differ in their last bits.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import SimpleITK as sitk  # noqa: N813 - the name that its own pages use
    except ImportError as error:
        raise InputError("preparing images needs SimpleITK: pip install -e '.[prepare]'") from error
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return sitk


def to_image(sitk: Any, volume: Array, affine: Matrix) -> Any:
    """Return a volume (I, J, K) with its RAS affine as an image of SimpleITK."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    left, _, right = np.linalg.svd(lps[:3, :3] / spacing)  # the nearest rotation, where a file has a slight shear
    image.SetSpacing(spacing.tolist())
    image.SetDirection((left @ right).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _search(sitk: Any, fixed: Any, moving: Any) -> tuple[Any, float, float]:
    """Return the transform, its mutual information, and that of no movement, over all voxels of the finest level."""
    found: Any = None
    for level in _LEVELS:
        pair = _coarsen(sitk, fixed, level), _coarsen(sitk, moving, level)
        if found is None:
            begins = sorted(_begins(sitk, *pair), key=lambda one: _measure(sitk, *pair, one))
            tried = [_optimise(sitk, *pair, begin, level) for begin in begins[:_BEST]]
            found = min(tried, key=lambda one: one[1])
        else:
            found = _refine(sitk, *pair, found[0], level)
    before, after = (_measure(sitk, *pair, one) for one in (sitk.Euler3DTransform(), found[0]))
    return found[0], -after, -before


def _begins(sitk: Any, fixed: Any, moving: Any) -> list[Any]:
    """Return transforms to begin with, all turning about the fixed head's centre of mass."""
    centre, goal = _mass(sitk, fixed), _mass(sitk, moving)
    begins = []
    for shift in (np.zeros(3), goal - centre):
        for angles in itertools.product(_NODS, _TILTS, _TURNS):
            begin = sitk.Euler3DTransform()
            begin.SetCenter(centre.tolist())
            begin.SetRotation(*np.deg2rad(angles).tolist())
            begin.SetTranslation(shift.tolist())
            begins.append(begin)
    return begins


def _optimise(sitk: Any, fixed: Any, moving: Any, begin: Any, level: float) -> tuple[Any, float]:
    """Return the best transform near ``begin`` and its negative mutual information; inf where heads do not meet."""
    transform = sitk.Euler3DTransform(begin)
    method = _method(sitk, transform, level, samples=_SAMPLES / fixed.GetNumberOfPixels())
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        return begin, float("inf")
    return transform, float(method.GetMetricValue())


def _refine(sitk: Any, fixed: Any, moving: Any, begin: Any, level: float) -> tuple[Any, float]:
    """Return a transform near ``begin`` that is no worse, and its negative mutual information.

    The first step of a descent is as long as it may be: from near the optimum, it can lead to another one.
    """
    least = _measure(sitk, fixed, moving, begin)
    for step in (level, level / 4, level / 16):
        found, _ = _optimise(sitk, fixed, moving, begin, step)
        value = _measure(sitk, fixed, moving, found)
        if value <= least:
            return found, value
    return begin, least


def _measure(sitk: Any, fixed: Any, moving: Any, transform: Any) -> float:
    """Return the negative mutual information over all voxels; inf where heads do not meet."""
    try:
        return float(_method(sitk, transform, _LEVELS[0]).MetricEvaluate(fixed, moving))
    except RuntimeError:
        return float("inf")


def _method(sitk: Any, transform: Any, level: float, samples: float = 1.0) -> Any:
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    if samples < 1:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(samples, 1)
    # the gradient of the voxels themselves: one smoothed over them misses the optimum by millimetres
    method.SetMetricUseFixedImageGradientFilter(False)
    method.SetMetricUseMovingImageGradientFilter(False)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=level,
        minStep=0.005 * level,
        numberOfIterations=100,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    return method


def _coarsen(sitk: Any, image: Any, spacing: float) -> Any:
    """Return an image on isotropic voxels [mm], smoothed accordingly; finer than its own it does not get."""
    own = np.array(image.GetSpacing())
    side = np.maximum(own, spacing)
    for axis in range(3):
        if side[axis] > own[axis]:
            smoothing = sitk.RecursiveGaussianImageFilter()
            smoothing.SetSigma(float(side[axis]) / 2)
            smoothing.SetDirection(axis)
            image = smoothing.Execute(image)
    size = np.ceil(np.array(image.GetSize()) * own / side).astype(int)
    resample = sitk.ResampleImageFilter()
    resample.SetSize([int(n) for n in size])
    resample.SetOutputSpacing(side.tolist())
    resample.SetOutputDirection(image.GetDirection())
    resample.SetOutputOrigin(image.GetOrigin())
    resample.SetInterpolator(sitk.sitkLinear)
    coarse = resample.Execute(image)
    brightest = float(np.percentile(sitk.GetArrayViewFromImage(coarse), _BRIGHTEST))
    return sitk.Clamp(coarse, sitk.sitkFloat32, 0.0, brightest)


def _mass(sitk: Any, image: Any) -> NDArray[np.float64]:
    """Return the centre of mass (3,) of the brightness [mm, LPS]."""
    values = sitk.GetArrayViewFromImage(image).astype(np.float64)
    if not values.any():
        raise RuntimeError("an image is empty")
    indices = [
        float((values.sum(axis=tuple({0, 1, 2} - {axis})) * np.arange(n)).sum() / values.sum())
        for axis, n in enumerate(values.shape)
    ]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(indices[::-1]))


def _matrix(transform: Any) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1][:120] if lines else type(error).__name__
