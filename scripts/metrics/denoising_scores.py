"""Signal-to-noise and structural similarity of denoised images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scripts.errors import InputError
from scripts.metrics.arrays import Array, to_array

__all__ = ["DENOISING_METRICS", "denoising_scores", "psnr", "structural_similarity"]

_SINGLE = ("PSNR", "PSNR_range", "PSNR_head", "SSIM")

DENOISING_METRICS = (*_SINGLE, *(f"{name}_noisy" for name in _SINGLE), "PSNR_gain")
"""In the order in which `denoising_scores` returns them."""

_SIGMA, _REACH = 1.5, 5  # voxels


def denoising_scores(clean: Array, noisy: Array, denoised: Array, head: Tensor | NDArray[Any]) -> list[dict[str, Any]]:
    """Return how close the denoised and the noisy image come to the clean one, a row for each metric.

    - ``PSNR`` [dB]: over all voxels with L = 1, as in the paper. Images are z-scored, so it is the error relative to
      the deviation of the image; a noise of sigma 0.2 has 13.98 dB.
    - ``PSNR_range`` [dB]: over all voxels, L the range of the clean image inside the head.
    - ``PSNR_head`` [dB]: L = 1 and the error inside the head only.
    - ``SSIM``: mean inside the head of the local `structural_similarity`, L as in ``PSNR_range``.
    - ``PSNR_noisy``, ``PSNR_range_noisy``, ``PSNR_head_noisy``, ``SSIM_noisy``: the same of the noisy image.
    - ``PSNR_gain`` [dB]: PSNR - PSNR_noisy.

    An image that equals the clean one in every voxel of the head is refused: its PSNR is infinite, as would be every
    mean over subjects, and neither noise nor the output of a network does that.

    Args:
        clean: (I, J, K) z-scored image, 11 voxels or more along each axis.
        noisy: (I, J, K) the input of the network.
        denoised: (I, J, K) what the network made of it.
        head: (I, J, K) true inside the head.

    Returns:
        ``class`` (always ``image``), ``metric`` and ``value`` of each of `DENOISING_METRICS`.

    Raises:
        InputError: shapes that differ or are too small, values that are not finite, an empty head, a clean image
            without contrast, or another image that equals it.

    Examples:
        Noise of one sigma, 0.2, has a PSNR of 13.98 dB, and half of it 6.02 dB more:

        >>> clean = np.indices((11, 11, 11)).sum(axis=0) / 10
        >>> noise = 0.2 * (-1.0) ** np.indices((11, 11, 11)).sum(axis=0)
        >>> rows = denoising_scores(clean, clean + noise, clean + noise / 2, np.ones((11, 11, 11)))
        >>> {row["metric"]: round(row["value"], 2) for row in rows if row["metric"] in ("PSNR_noisy", "PSNR_gain")}
        {'PSNR_noisy': 13.98, 'PSNR_gain': 6.02}
    """
    images = {"clean": to_array(clean), "noisy": to_array(noisy), "denoised": to_array(denoised)}
    inside = np.asarray(head.detach().cpu().numpy() if isinstance(head, Tensor) else head) != 0
    _check(images, inside)
    truth = images.pop("clean")
    span = float(np.ptp(truth[inside]))
    if not span > 0:
        raise InputError("the clean image is constant inside the head: give an image with contrast")
    scores = {}
    for (name, image), ending in zip(images.items(), ("_noisy", ""), strict=True):
        if not (image[inside] != truth[inside]).any():
            raise InputError(
                f"the {name} image equals the clean one, its PSNR is infinite: check the noise, and what is predicted"
            )
        scores[f"PSNR{ending}"] = psnr(truth, image)
        scores[f"PSNR_range{ending}"] = psnr(truth, image, span)
        scores[f"PSNR_head{ending}"] = psnr(truth[inside], image[inside])
        scores[f"SSIM{ending}"] = float(structural_similarity(truth, image, span)[inside].mean())
    scores["PSNR_gain"] = scores["PSNR"] - scores["PSNR_noisy"]
    return [{"class": "image", "metric": metric, "value": scores[metric]} for metric in DENOISING_METRICS]


def psnr(clean: NDArray[np.float64], other: NDArray[np.float64], span: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio 20 log10(L / root mean square error) [dB] of arrays that differ.

    Args:
        clean: of any shape.
        other: of the same shape.
        span: L, in the unit of the images.

    Examples:
        >>> round(psnr(np.zeros(5), np.full(5, 0.2)), 2)
        13.98
    """
    return float(20 * np.log10(span) - 10 * np.log10(np.mean((other - clean) ** 2)))


def structural_similarity(clean: NDArray[np.float64], other: NDArray[np.float64], span: float) -> NDArray[np.float64]:
    """Return the local structural similarity (I, J, K), 1 where the images agree.

    As first defined: Gaussian windows of 1.5 voxels, here 11 x 11 x 11, K1 = 0.01, K2 = 0.03. Beyond its border the
    image is mirrored, so every voxel has a value. MONAI gives the same numbers for the windows that lie inside the
    image and none for the rest; it does not take the windows axis by axis, which is several times slower.

    Args:
        clean: (I, J, K), 11 voxels or more along each axis.
        other: (I, J, K).
        span: L, the range of the images.

    References:
        Wang et al., 2004, doi:10.1109/TIP.2003.819861.

    Examples:
        Of two constant images only the luminance term is left, (2 a b + c) / (a^2 + b^2 + c) with c = 0.01^2:

        >>> similar = structural_similarity(np.full((11, 11, 11), 1.0), np.full((11, 11, 11), 0.5), 1.0)
        >>> round(float(similar.mean()), 4)  # 1.0001 / 1.2501
        0.8
    """
    from skimage.metrics import structural_similarity as similarity

    _, local = similarity(
        clean, other, data_range=span, gaussian_weights=True, sigma=_SIGMA, use_sample_covariance=False, full=True
    )
    return np.asarray(local, dtype=np.float64)


def _check(images: dict[str, NDArray[np.float64]], inside: NDArray[np.bool_]) -> None:
    shapes = {**{name: image.shape for name, image in images.items()}, "head": inside.shape}
    if len(set(shapes.values())) > 1 or inside.ndim != 3 or min(inside.shape) < 2 * _REACH + 1:
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"{told}: give four volumes of one shape, {2 * _REACH + 1} voxels or more along each axis")
    for name, image in images.items():
        if not np.isfinite(image).all():
            raise InputError(f"the {name} image holds NaN or Inf: check the image and the network's weights")
    if not inside.any():
        raise InputError("the head mask is empty: give a mask of the head")
