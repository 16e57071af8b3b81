from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from scripts.errors import InputError
from scripts.transforms.foreground import NormaliseForegroundd, head_mask

SHAPE = (40, 44, 36)
SIGMA = 12.0  # of the noise in each channel; tissue lies at 300 to 900


def ellipsoid(radii: tuple[float, float, float], shape: tuple[int, int, int] = SHAPE) -> NDArray[np.bool_]:
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    return sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)) <= 1


def head(*, nerve: bool = True) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A head: skin, dark bone, brain, dark fluid, Rician noise everywhere; and where it truly is."""
    outer, skull, brain, fluid = (ellipsoid(r) for r in ((15, 17, 13), (13, 15, 11), (11, 13, 9), (4, 5, 3)))
    clean = np.where(outer, 600.0, 0.0)
    clean[skull] = 0.0
    clean[brain] = 800.0
    clean[fluid] = 60.0
    if nerve:  # from the brain through the bone to the skin
        clean[19:21, 34:38, 17:19] = 700.0
    rng = np.random.default_rng(0)
    clean[brain & ~fluid] *= 1 + 0.1 * rng.standard_normal(int((brain & ~fluid).sum()))
    real, imaginary = (SIGMA * rng.standard_normal(clean.shape) for _ in range(2))
    return np.hypot(clean + real, imaginary).astype(np.float32), outer


def tensor(image: NDArray[Any]) -> Tensor:
    return torch.from_numpy(image[None])


def volume(image: NDArray[Any], affine: NDArray[Any]) -> MetaTensor:
    return MetaTensor(tensor(image), affine=torch.from_numpy(affine), meta={"filename_or_obj": "head.nii"})


def normalised(image: NDArray[Any], affine: NDArray[Any], **options: Any) -> dict[Any, Any]:
    return NormaliseForegroundd("image", **options)({"image": volume(image, affine)})


class TestMask:
    @pytest.mark.parametrize("nerve", [True, False], ids=["connected", "brain apart from skin"])
    def test_the_head_with_all_that_is_dark_inside(self, nerve: bool) -> None:
        image, true = head(nerve=nerve)
        found = head_mask(tensor(image))
        assert (found.dtype, found.shape) == (torch.bool, (1, *SHAPE))
        both = (found[0].numpy() & true).sum()
        assert 2 * both / (found.sum() + true.sum()) > 0.99
        assert found[0][tuple(n // 2 for n in SHAPE)]

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 40.0])
    def test_in_any_unit(self, scale: float) -> None:
        image, _ = head()
        assert torch.equal(head_mask(tensor(image * np.float32(scale))), head_mask(tensor(image)))

    def test_the_air_may_be_zero(self) -> None:
        image, true = head()
        found = head_mask(tensor(np.where(true, image, 0).astype(np.float32)))[0].numpy()
        assert (found != true).mean() < 0.002

    def test_only_the_largest_part(self) -> None:
        """A bright marker beside the head and speckles in the air are no head."""
        image, true = head()
        image[1:4, 1:4, 1:4] = 900
        image[37, 2, 30] = image[2, 40, 33] = 3000
        found = head_mask(tensor(image))[0].numpy()
        assert not found[:5, :5, :5].any()
        assert ndimage.label(found)[1] == 1
        assert (found != true).mean() < 0.01

    def test_gaps_of_two_voxels_are_closed_so_that_the_inside_is_filled(self) -> None:
        image, true = head()
        image[19:21, 20:22, :18] = 0  # through skin and brain to the fluid
        found = head_mask(tensor(image))[0].numpy()
        # the brain, 9 voxels high, is closed from its surface on
        assert found[19:21, 20:22, 10:18].all()
        assert (found != true).mean() < 0.01

    def test_a_head_that_touches_the_edge(self) -> None:
        image, true = head()
        cut = image[:, :, 10:24]
        found = head_mask(tensor(cut))[0].numpy()
        inside = true[:, :, 10:24]
        # the cut opens the bone, whose gap is more than two voxels wide in places
        assert (found & ~inside).mean() < 0.001
        assert (inside & ~found).mean() < 0.03
        assert found[20, 22, 0]
        assert found[20, 22, -1]

    def test_nothing_in_a_constant_image(self) -> None:
        assert not head_mask(torch.full((1, 8, 8, 8), 3.0)).any()


class TestNormalise:
    def test_zero_mean_and_unit_deviation_over_the_head(self, oblique: NDArray[Any]) -> None:
        image, _ = head()
        done = normalised(image, oblique)
        inside = done["foreground"][0].bool().numpy()
        z = done["image"][0].numpy().astype(np.float64)
        assert z[inside].mean() == pytest.approx(0, abs=1e-5)
        assert z[inside].std() == pytest.approx(1, abs=1e-5)
        assert done["image"].dtype == torch.float32
        assert done["foreground"].dtype == torch.uint8

    @pytest.mark.parametrize("over", ["foreground", "volume", "box"])
    def test_by_numpy(self, oblique: NDArray[Any], over: str) -> None:
        image, _ = head()
        mask = head_mask(tensor(image))[0].numpy()
        places = np.argwhere(mask)
        box = tuple(slice(low, high + 1) for low, high in zip(places.min(0), places.max(0), strict=True))
        values = {"foreground": image[mask], "volume": image, "box": image[box]}[over].astype(np.float64)
        done = normalised(image, oblique, over=over)
        wanted = (image[box] - values.mean()) / values.std()
        np.testing.assert_allclose(done["image"][0].numpy(), wanted, atol=2e-5)
        assert np.array_equal(done["foreground"][0].numpy(), mask[box])
        meta = done["image"].meta
        assert (meta["mean"], meta["deviation"]) == pytest.approx((values.mean(), values.std()), rel=1e-5)
        assert meta["filename_or_obj"] == "head.nii"

    def test_the_background_has_the_same_affine_map(self, oblique: NDArray[Any]) -> None:
        """Intensity = z * deviation + mean, in the air as well."""
        image, _ = head()
        done = normalised(image, oblique, crop=False)["image"]
        back = done[0].numpy().astype(np.float64) * done.meta["deviation"] + done.meta["mean"]
        np.testing.assert_allclose(back, image, atol=1e-3)
        assert done.shape == (1, *SHAPE)

    @pytest.mark.parametrize("pad", [3, 10])
    def test_more_noisy_air_changes_next_to_nothing(self, oblique: NDArray[Any], pad: int) -> None:
        """The foot of the histogram may move by a bin, and with it a few voxels at the edge of the mask."""
        image, _ = head()
        wide = np.pad(image, pad)
        rng = np.random.default_rng(1)
        air = np.ones(wide.shape, dtype=bool)
        air[pad:-pad, pad:-pad, pad:-pad] = False
        wide[air] = np.hypot(*(SIGMA * rng.standard_normal((2, int(air.sum())))))
        first, second = normalised(image, oblique)["image"], normalised(wide, oblique)["image"]
        assert second.meta["mean"] == pytest.approx(first.meta["mean"], rel=0.01)
        assert second.meta["deviation"] == pytest.approx(first.meta["deviation"], rel=0.01)

    @pytest.mark.parametrize("pad", [((4, 9), (0, 3), (12, 1)), ((45, 45), (45, 45), (45, 45))], ids=["few", "many"])
    @pytest.mark.parametrize("air", ["noise", "zero"])
    def test_padding_changes_no_value(self, oblique: NDArray[Any], pad: Any, air: str) -> None:
        """Zeros around noisy air have a peak of their own, which must not pass for the air."""
        image, true = head()
        if air == "zero":
            image = np.where(true, image, 0).astype(np.float32)
        first, second = (normalised(i, oblique)["image"] for i in (image, np.pad(image, pad)))
        assert first.shape != (1, *SHAPE)
        np.testing.assert_allclose(second.numpy(), first.numpy(), atol=1e-5)

    def test_the_unit_of_the_image_does_not_matter(self, oblique: NDArray[Any]) -> None:
        image, _ = head()
        first, second = (normalised(image * np.float32(scale), oblique)["image"] for scale in (1, 250))
        np.testing.assert_allclose(second.numpy(), first.numpy(), atol=1e-4)

    def test_a_voxel_keeps_its_place_in_the_world(self, oblique: NDArray[Any]) -> None:
        image, _ = head()
        image[22, 25, 17] = 1e4  # a voxel to find again
        given = volume(image, oblique)
        done = NormaliseForegroundd("image")({"image": given})["image"]
        place = np.argwhere(done[0].numpy() == float(done.max()))[0]
        assert tuple(place) != (22, 25, 17)
        np.testing.assert_allclose(done.affine.numpy() @ [*place, 1], oblique @ [22, 25, 17, 1], atol=1e-9)
        np.testing.assert_allclose(done.affine[:3, :3], oblique[:3, :3])
        np.testing.assert_allclose(given.affine, oblique)  # the input is left as it was
        assert np.array_equal(given[0].numpy(), image)

    def test_others_are_cut_alike_and_keep_their_values(self, oblique: NDArray[Any]) -> None:
        image, true = head()
        label = MetaTensor(tensor(true.astype(np.uint8)), affine=torch.from_numpy(oblique), meta={"name": "l"})
        given = {"image": volume(image, oblique), "label": label, "name": "x"}
        done = NormaliseForegroundd("image", others=["label", "clean"])(given)
        assert done["label"].shape == done["image"].shape == done["foreground"].shape
        places = np.argwhere(head_mask(tensor(image))[0].numpy())
        (i, j, k), (a, b, c) = places.min(0), places.max(0) + 1
        assert np.array_equal(done["label"][0].numpy(), true[i:a, j:b, k:c])
        for name in ("label", "foreground"):
            np.testing.assert_allclose(done[name].affine, done["image"].affine)
        assert done["label"].dtype == torch.uint8
        assert (done["label"].meta["name"], done["name"]) == ("l", "x")
        assert "clean" not in done

    def test_without_a_cut_or_a_mask(self, oblique: NDArray[Any]) -> None:
        image, _ = head()
        done = normalised(image, oblique, crop=False, foreground_key=None)
        assert set(done) == {"image"}
        np.testing.assert_allclose(done["image"].affine, oblique)

    def test_an_image_without_contrast_is_named(self, oblique: NDArray[Any]) -> None:
        with pytest.raises(InputError, match=r"head\.nii shows no head \(constant voxels\)"):
            normalised(np.full(SHAPE, 7, np.float32), oblique)
        binary = np.zeros(SHAPE, np.float32)
        binary[10:30, 10:30, 10:30] = 1
        with pytest.raises(InputError, match=r"head\.nii shows no head"):
            normalised(binary, oblique)

    def test_an_unknown_way_is_refused(self) -> None:
        with pytest.raises(InputError, match="normalisation='brain' is unknown: choose foreground, volume or box"):
            NormaliseForegroundd("image", over="brain")  # type: ignore[arg-type]


def test_an_image_without_air_is_all_foreground() -> None:
    """A part cut out of a head, of intensities without the peak that air makes."""
    part = np.zeros((32, 32, 32), np.float32)
    part[4:28, 5:27, 6:30] = np.random.default_rng(0).uniform(100, 1000, (24, 22, 24))
    mask = head_mask(torch.from_numpy(part[None]))[0].numpy()
    assert (mask == (part > 0)).mean() > 0.99
