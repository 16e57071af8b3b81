from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics.regression import compute_ssim_and_cs
from numpy.typing import NDArray
from scipy import ndimage

from scripts.errors import InputError
from scripts.metrics.denoising_scores import DENOISING_METRICS, denoising_scores, psnr, structural_similarity

Volumes = dict[str, NDArray[Any]]


def score(volumes: Volumes) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in denoising_scores(**volumes)}


@pytest.fixture
def make() -> Callable[..., Volumes]:
    """A smooth z-scored head, off centre in some air, with noise of sigma 0.2 and with less."""

    def volumes(shape: tuple[int, int, int] = (20, 18, 22), sigma: float = 0.2, left: float = 0.5) -> Volumes:
        rng = np.random.default_rng(0)
        smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2)
        head = np.zeros(shape, bool)
        head[3:-2, 2:-4, 1:-5] = True
        clean = (smooth - smooth[head].mean()) / smooth[head].std()
        noise = sigma * rng.normal(size=shape)
        return {"clean": clean, "noisy": clean + noise, "denoised": clean + left * noise, "head": head}

    return volumes


def test_noise_of_the_paper_has_its_decibels(make: Callable[..., Volumes]) -> None:
    volumes = make((64, 64, 64))
    found = score(volumes)
    # sampling: 262144 voxels give the variance to 0.3 %, that is 0.012 dB (1 sigma)
    assert found["PSNR_noisy"] == pytest.approx(13.979, abs=0.04)
    assert found["PSNR_head_noisy"] == pytest.approx(13.979, abs=0.05)


def test_half_the_noise_gains_six_decibels_everywhere(make: Callable[..., Volumes]) -> None:
    found = score(make())
    for metric in ("PSNR", "PSNR_range", "PSNR_head"):
        assert found[metric] - found[f"{metric}_noisy"] == pytest.approx(20 * np.log10(2))
    assert found["PSNR_gain"] == pytest.approx(20 * np.log10(2))
    assert 1 > found["SSIM"] > found["SSIM_noisy"] > 0


def test_ratios_follow_their_definitions(make: Callable[..., Volumes]) -> None:
    volumes = make()
    clean, head = volumes["clean"], volumes["head"]
    found = score(volumes)
    for name, ending in (("noisy", "_noisy"), ("denoised", "")):
        squares = (volumes[name] - clean) ** 2
        low, high = clean[head].min(), clean[head].max()
        assert found[f"PSNR{ending}"] == pytest.approx(20 * np.log10(1 / np.sqrt(squares.mean())))
        assert found[f"PSNR_range{ending}"] == pytest.approx(20 * np.log10((high - low) / np.sqrt(squares.mean())))
        assert found[f"PSNR_head{ending}"] == pytest.approx(20 * np.log10(1 / np.sqrt(squares[head].mean())))
        assert found[f"SSIM{ending}"] == pytest.approx(
            structural_similarity(clean, volumes[name], high - low)[head].mean()
        )
    assert [row["metric"] for row in denoising_scores(**volumes)] == list(DENOISING_METRICS)
    assert {row["class"] for row in denoising_scores(**volumes)} == {"image"}


def test_what_scales_with_the_images_and_what_does_not(make: Callable[..., Volumes]) -> None:
    volumes = make()
    small = score(volumes)
    large = score({name: v if name == "head" else 3 * v for name, v in volumes.items()})
    for metric in ("PSNR_range", "SSIM", "PSNR_gain"):
        assert large[metric] == pytest.approx(small[metric])
    for metric in ("PSNR", "PSNR_head", "PSNR_noisy", "PSNR_head_noisy"):
        assert large[metric] == pytest.approx(small[metric] - 20 * np.log10(3))


def test_errors_in_the_air_count_in_the_whole_only(make: Callable[..., Volumes]) -> None:
    volumes = make()
    spoilt = volumes["denoised"] + np.where(volumes["head"], 0, 1.0)
    before, after = score(volumes), score({**volumes, "denoised": spoilt})
    assert after["PSNR"] < before["PSNR"] - 3
    assert after["PSNR_head"] == before["PSNR_head"]
    assert after["PSNR_noisy"] == before["PSNR_noisy"]


def test_similarity_is_that_of_a_naive_window() -> None:
    rng = np.random.default_rng(1)
    clean = ndimage.gaussian_filter(rng.normal(size=(13, 12, 14)), 1)
    other = clean + 0.1 * rng.normal(size=clean.shape)
    found = structural_similarity(clean, other, 0.8)
    assert found.shape == clean.shape
    steps = np.arange(-5, 6)
    line = np.exp(-(steps**2) / (2 * 1.5**2))
    weight = np.einsum("i,j,k->ijk", line, line, line)
    weight /= weight.sum()
    mirrored = [np.pad(image, 5, mode="symmetric") for image in (clean, other)]
    c1, c2 = (0.01 * 0.8) ** 2, (0.03 * 0.8) ** 2
    for i, j, k in [(0, 0, 0), (6, 6, 7), (12, 3, 13), (5, 11, 0), (8, 5, 5)]:
        x, y = (image[i : i + 11, j : j + 11, k : k + 11] for image in mirrored)
        mx, my = float((weight * x).sum()), float((weight * y).sum())
        vx, vy = float((weight * (x - mx) ** 2).sum()), float((weight * (y - my) ** 2).sum())
        vxy = float((weight * (x - mx) * (y - my)).sum())
        expected = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        assert found[i, j, k] == pytest.approx(expected, rel=1e-9)


def test_similarity_inside_is_that_of_monai(make: Callable[..., Volumes]) -> None:
    volumes = make()
    clean, noisy = volumes["clean"], volumes["noisy"]
    tensors = [torch.from_numpy(image)[None, None] for image in (noisy, clean)]
    expected, _ = compute_ssim_and_cs(tensors[0], tensors[1], 3, (11,) * 3, (1.5,) * 3, data_range=4.0)
    inner = structural_similarity(clean, noisy, 4.0)[5:-5, 5:-5, 5:-5]
    np.testing.assert_allclose(inner, expected[0, 0].numpy(), atol=1e-4)


def test_similarity_of_identical_images_is_one(make: Callable[..., Volumes]) -> None:
    clean = make()["clean"]
    np.testing.assert_allclose(structural_similarity(clean, clean, 1.0), 1.0)
    assert psnr(clean, clean + 0.1) == pytest.approx(20)


def test_tensors_are_taken_too(make: Callable[..., Volumes]) -> None:
    volumes = make()
    tensors = {name: MetaTensor(torch.from_numpy(v).float()) for name, v in volumes.items()}
    assert score(tensors) == pytest.approx(score(volumes), rel=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda v: {"denoised": v["denoised"][1:]}, r"denoised \(19, 18, 22\), head .*four volumes of one shape"),
        (lambda v: {name: a[:, :10] for name, a in v.items()}, "11 voxels or more along each axis"),
        (lambda v: {"head": np.zeros_like(v["head"])}, "head mask is empty"),
        (lambda v: {"clean": v["clean"] * 0}, "clean image is constant inside the head"),
        (lambda v: {"denoised": v["denoised"] * np.nan}, "denoised image holds NaN or Inf: check the image and"),
        (lambda v: {"noisy": v["clean"]}, "noisy image equals the clean one, its PSNR is infinite: check the noise"),
        (lambda v: {"denoised": np.where(v["head"], v["clean"], 9)}, "denoised image equals the clean one"),
    ],
    ids=["shape", "small", "no head", "constant", "nan", "no noise", "perfect"],
)
def test_bad_input_is_told_in_a_line(
    make: Callable[..., Volumes], change: Callable[[Volumes], Volumes], match: str
) -> None:
    volumes = make()
    with pytest.raises(InputError, match=match) as caught:
        score({**volumes, **change(volumes)})
    assert "\n" not in str(caught.value)
