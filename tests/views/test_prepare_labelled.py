"""Views with their labels: what a network of any contrast is trained on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.views import ViewGenerator
from scripts.views.prepare_labelled import PrepareLabelledViews, PrepareNoisyViews, class_labels
from scripts.views.variation import Variation, blur, vary_images, vary_maps

PATCH = 24
STILL = Variation(maps=0, stripped=0, blur_probability=0, gamma=0, scale=0, shift=0)


@pytest.fixture
def batch(maps: Tensor) -> dict[str, Tensor]:
    labels = torch.zeros(maps.shape[0], 1, *maps.shape[2:], dtype=torch.uint8)
    labels[maps[:, :1] > 0] = 4
    labels[:, :, : maps.shape[2] // 2][maps[:, :1, : maps.shape[2] // 2] > 0] = 2
    return {"maps": maps, "labels": labels, "step": torch.tensor([5] * len(maps))}


def test_labels_are_warped_as_the_views_are(batch: dict[str, Tensor]) -> None:
    views = ViewGenerator("seqinv", PATCH)
    image, classes = PrepareLabelledViews(views, {"1": [1, 4], "2": [2]}, STILL)(batch, "cpu")
    made = views(batch["maps"], step=5)
    torch.testing.assert_close(image, made["image"], rtol=0, atol=1e-4)
    one, two = (views.warp((batch["labels"] == k).float(), made["params"]) for k in (4, 2))
    expected = torch.cat([1 - one - two, one, two], dim=1).argmax(1, keepdim=True)
    assert torch.equal(classes.long(), expected)
    assert set(classes.unique().tolist()) == {0.0, 1.0, 2.0}


def test_the_step_and_the_seed_alone_decide(batch: dict[str, Tensor]) -> None:
    views = ViewGenerator("seqinv", PATCH)
    first = PrepareLabelledViews(views, {"1": [4]})(batch, "cpu")
    torch.manual_seed(99)
    again = PrepareLabelledViews(views, {"1": [4]})(batch, "cpu")
    other = PrepareLabelledViews(views, {"1": [4]}, seed=3)(batch, "cpu")
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


def test_regions_may_come_from_elsewhere(batch: dict[str, Tensor]) -> None:
    views = ViewGenerator("seqinv", PATCH)
    named = {"step": batch["step"]}
    there = PrepareLabelledViews(views, {"1": [4]}, regions=lambda _batch, _device: batch)(named, "cpu")
    here = PrepareLabelledViews(views, {"1": [4]})(batch, "cpu")
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))


def test_noise_is_white_and_what_was_added(batch: dict[str, Tensor]) -> None:
    views = ViewGenerator("seqinv", PATCH)
    noisy, noise = PrepareNoisyViews(views, 0.2, STILL)(batch, "cpu")
    assert abs(noise.std().item() - 0.2) < 0.005
    torch.testing.assert_close(noisy - noise, views(batch["maps"], step=5)["target"], rtol=0, atol=1e-5)
    again = PrepareNoisyViews(views, 0.2, STILL)(batch, "cpu")
    assert torch.equal(noise, again[1])


def test_each_view_may_have_noise_of_its_own_level(batch: dict[str, Tensor]) -> None:
    views = ViewGenerator("seqinv", PATCH)
    levels = []
    for step in range(20):
        noise = PrepareNoisyViews(views, (0.05, 0.3), STILL)({**batch, "step": torch.full((2,), step)}, "cpu")[1]
        levels += noise.flatten(1).std(1).tolist()
    assert 0.045 < min(levels) < 0.08
    assert 0.27 < max(levels) < 0.31
    assert abs(sum(levels) / len(levels) - 0.175) < 0.03
    fixed, same = (PrepareNoisyViews(views, sigma, STILL)(batch, "cpu")[1] for sigma in (0.2, (0.2, 0.2)))
    assert torch.equal(fixed, same)
    with pytest.raises(InputError, match=r"noise_range=.* is out of bounds"):
        PrepareNoisyViews(views, (0.3, 0.1))


def test_tissue_values_vary_by_map_and_anatomy() -> None:
    maps, labels = torch.ones(500, 4, 1, 1, 2), torch.tensor([0, 1]).expand(500, 1, 1, 1, 2)
    made = vary_maps(maps, labels, Variation(maps=0.1, stripped=0.3), torch.Generator().manual_seed(0))
    factors = made[..., 1].log()
    assert abs(factors.std().item() - 0.1) < 0.01
    bare = (made[..., 0] == 0).flatten(1)
    assert torch.equal(bare.all(1), bare.any(1))
    assert abs(bare.all(1).float().mean().item() - 0.3) < 0.06


def test_blur_is_that_of_scipy() -> None:
    from scipy.ndimage import gaussian_filter

    image = torch.randn(2, 1, 12, 14, 16)
    sigma = torch.tensor([[1.6, 0.0, 2.0], [0.0, 0.0, 0.0]])
    found = blur(image, sigma)
    expected = gaussian_filter(image[0, 0].numpy(), [1.6, 0.0, 2.0], mode="wrap", truncate=8)
    torch.testing.assert_close(found[0, 0], torch.from_numpy(expected), rtol=0, atol=0.005)
    torch.testing.assert_close(found[1], image[1], rtol=0, atol=1e-5)


def test_intensities_stay_ordered() -> None:
    image = torch.linspace(-2, 3, 64).view(1, 1, 4, 4, 4).repeat(8, 1, 1, 1, 1)
    made = vary_images(image, Variation(blur_probability=0), torch.Generator().manual_seed(1))
    assert (made.flatten(1).diff(dim=1) > 0).all()
    assert not torch.allclose(made[0], made[1])


@pytest.mark.parametrize("values", [{"gama": 1}, {"gamma": -1}, {"gamma": float("nan")}])
def test_what_varies_is_checked(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="variation="):
        Variation.of(values)


def test_classes_are_numbered_from_one(maps: Tensor) -> None:
    with pytest.raises(InputError, match="number the classes from 1 on"):
        PrepareLabelledViews(ViewGenerator("seqinv", PATCH), {"2": [1]})
    assert class_labels(torch.zeros(1, 2, 3)).tolist() == [[[0.0, 0.0, 0.0]]]
