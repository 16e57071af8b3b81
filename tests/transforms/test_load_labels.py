from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.volume_reader import load_volume
from scripts.transforms.load_labels import LoadLabelsd, labels_of_probabilities

Write = Callable[..., Path]

TISSUES = {1: "grey matter", 2: "white matter", 3: "CSF"}
LESION = {1: "lesion"}
SHAPE = (6, 7, 5)


@pytest.fixture
def image(write_volume: Write) -> dict[str, Any]:
    """A loaded image on the oblique grid."""
    voxels = np.random.default_rng(0).random(SHAPE, dtype=np.float32) + 1
    return {"image": load_volume(write_volume("image.nii.gz", voxels))}


def load(image: dict[str, Any], label: Any, classes: dict[int, str], **options: Any) -> MetaTensor:
    loaded = LoadLabelsd("label", classes, **options)({**image, "label": label})
    return loaded["label"]


@pytest.fixture
def write_maps(write_volume: Write) -> Callable[..., list[str]]:
    def write(maps: NDArray[Any], affine: NDArray[Any] | None = None) -> list[str]:
        return [str(write_volume(f"c{k}image.nii", m.astype(np.float32), affine)) for k, m in enumerate(maps, 1)]

    return write


def random_maps(seed: int = 0) -> NDArray[np.float32]:
    """Probabilities of background and three classes, without the background."""
    parts = np.random.default_rng(seed).dirichlet([0.7] * 4, SHAPE).astype(np.float32)
    return np.moveaxis(parts, -1, 0)[1:]


class TestProbabilities:
    def test_the_most_probable_class_and_the_background_has_the_rest(self) -> None:
        maps = random_maps()
        found = labels_of_probabilities(maps)
        assert found.dtype == np.uint8
        for place in np.ndindex(*SHAPE):
            p = [float(m[place]) for m in maps]
            chances = [1 - sum(p), *p]
            assert found[place] == chances.index(max(chances))
        assert set(np.unique(found)) == {0, 1, 2, 3}

    @pytest.mark.parametrize(
        ("chances", "expected"),
        [
            ((0, 0, 0), 0),
            ((0.5, 0, 0), 0),  # ties go to the lower class
            ((0.5, 0.5, 0), 1),
            ((0, 0.5, 0.5), 2),
            ((0.25, 0.25, 0.25), 0),
            ((0, 0, 1), 3),
            ((0.34, 0.33, 0.33), 1),
            ((0.51, 0.52, 0), 2),  # a sum above 1 leaves no background, not a negative one
        ],
        ids=str,
    )
    def test_by_hand(self, chances: tuple[float, ...], expected: int) -> None:
        maps = np.array(chances, dtype=np.float32).reshape(3, 1, 1, 1)
        assert labels_of_probabilities(maps).item() == expected

    def test_from_files(self, image: dict[str, Any], write_maps: Callable[..., list[str]]) -> None:
        maps = random_maps()
        found = load(image, write_maps(maps), TISSUES)
        assert (found.dtype, found.shape) == (torch.uint8, (1, *SHAPE))
        assert np.array_equal(found[0].numpy(), labels_of_probabilities(maps))
        np.testing.assert_allclose(found.affine, image["image"].affine)
        assert Path(found.meta["filename_or_obj"]).name == "c1image.nii"

    def test_bytes_of_255_parts_are_read_as_spm_writes_them(self, image: dict[str, Any], tmp_path: Path) -> None:
        maps = random_maps()
        paths = []
        for k, probability in enumerate(maps, 1):
            stored = nib.Nifti1Image(np.rint(probability * 255).astype(np.uint8), image["image"].affine.numpy())
            stored.header.set_slope_inter(1 / 255, 0)
            paths.append(str(tmp_path / f"c{k}image.nii"))
            nib.save(stored, paths[-1])
        read = np.stack([nib.load(path).get_fdata() for path in paths])
        assert read.max() == pytest.approx(maps.max(), abs=1 / 255)
        difference = load(image, paths, TISSUES)[0].numpy() != labels_of_probabilities(maps)
        assert difference.mean() < 0.02  # near ties

    def test_values_out_of_range_are_named(self, image: dict[str, Any], write_maps: Callable[..., list[str]]) -> None:
        maps = random_maps()
        maps[1, 2, 3, 1] = 1.5
        with pytest.raises(InputError, match=r"c2image\.nii holds values from .* to 1\.5: write probabilities"):
            load(image, write_maps(maps), TISSUES)
        maps[1, 2, 3, 1] = -0.1
        with pytest.raises(InputError, match=r"c2image\.nii holds values from -0\.1 to"):
            load(image, write_maps(maps), TISSUES)
        with pytest.raises(InputError, match=r"c1image\.nii and its fellows add up to 2\.4"):
            load(image, write_maps(np.full((3, *SHAPE), 0.8)), TISSUES)
        # as SPM rounds
        maps = np.full((3, *SHAPE), 0.335)
        maps[:, 0] = 0
        load(image, write_maps(maps), TISSUES)

    def test_a_map_of_nothing_is_named(self, image: dict[str, Any], write_maps: Callable[..., list[str]]) -> None:
        maps = random_maps()
        maps[1] = 0
        with pytest.raises(InputError, match=r"c2image\.nii marks no white matter: correct it, or leave the subject"):
            load(image, write_maps(maps), TISSUES)

    def test_maps_on_another_grid(
        self, image: dict[str, Any], write_maps: Callable[..., list[str]], write_volume: Write, oblique: NDArray[Any]
    ) -> None:
        paths = write_maps(random_maps())
        oblique[0, 3] += 2
        write_volume("c3image.nii", np.zeros(SHAPE, np.float32), oblique)
        with pytest.raises(InputError, match=r"c3image\.nii lies on another grid than c1image\.nii"):
            load(image, paths, TISSUES)
        with pytest.raises(InputError, match=r"c1image\.nii lies on another grid than \S*image\.nii\.gz: reslice"):
            load(image, write_maps(random_maps(), oblique), TISSUES)


class TestMask:
    def mask(self, dtype: Any = np.uint8) -> NDArray[Any]:
        mask = np.zeros(SHAPE, dtype)
        mask[1:4, 2:5, 1:3] = 1
        return mask

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_whole_numbers_of_any_type(self, image: dict[str, Any], write_volume: Write, dtype: Any) -> None:
        found = load(image, str(write_volume("mask.nii.gz", self.mask(dtype))), LESION, required=[1])
        assert found.dtype == torch.uint8
        assert np.array_equal(found[0].numpy(), self.mask())

    @pytest.mark.parametrize("slope", [0.00392157, 0.003921567], ids=["rounds up", "rounds down"])
    def test_a_scaled_mask_is_rounded(self, image: dict[str, Any], tmp_path: Path, slope: float) -> None:
        """255 times a slope written with six digits is not quite 1."""
        stored = nib.Nifti1Image(self.mask() * 255, image["image"].affine.numpy())
        stored.header.set_slope_inter(slope, 0)
        nib.save(stored, tmp_path / "mask.nii")
        assert nib.load(tmp_path / "mask.nii").get_fdata().max() != 1
        assert np.array_equal(load(image, str(tmp_path / "mask.nii"), LESION)[0].numpy(), self.mask())

    def test_a_mask_stored_in_another_order_is_the_same(
        self, image: dict[str, Any], tmp_path: Path, oblique: NDArray[Any]
    ) -> None:
        stored = nib.Nifti1Image(self.mask(), oblique).as_reoriented([[2, 1], [0, -1], [1, 1]])
        nib.save(stored, tmp_path / "mask.nii")
        assert stored.shape != SHAPE
        assert np.array_equal(load(image, str(tmp_path / "mask.nii"), LESION)[0].numpy(), self.mask())

    @pytest.mark.parametrize("value", [2, 0.5, -1, 255])
    def test_other_values_are_named(self, image: dict[str, Any], write_volume: Write, value: float) -> None:
        mask = self.mask(np.float32)
        mask[0, 0, 0] = value
        message = rf"mask\.nii holds the label values {value:g}: write 0 background, 1 lesion$"
        with pytest.raises(InputError, match=message):
            load(image, str(write_volume("mask.nii", mask)), LESION)

    def test_a_required_class_that_is_missing_is_named(self, image: dict[str, Any], write_volume: Write) -> None:
        empty = str(write_volume("mask.nii", np.zeros(SHAPE, np.uint8)))
        with pytest.raises(InputError, match=r"mask\.nii marks no lesion: correct it, or leave the subject out"):
            load(image, empty, LESION, required=[1])
        assert not load(image, empty, LESION).any()

    def test_a_mask_of_all_voxels_is_named(self, image: dict[str, Any], write_volume: Write) -> None:
        full = str(write_volume("mask.nii", np.ones(SHAPE, np.uint8)))
        with pytest.raises(InputError, match=r"mask\.nii leaves no voxel to the background: correct it"):
            load(image, full, LESION)

    def test_classes_may_come_from_a_config(self, image: dict[str, Any], write_volume: Write) -> None:
        """The names of JSON are strings."""
        path = str(write_volume("mask.nii", self.mask()))
        assert load(image, path, {"1": "lesion"}).any()  # type: ignore[dict-item]

    def test_files_that_are_wrong_are_named(self, image: dict[str, Any], tmp_path: Path, write_volume: Write) -> None:
        with pytest.raises(InputError, match=r"gone\.nii does not exist"):
            load(image, str(tmp_path / "gone.nii"), LESION)
        with pytest.raises(InputError, match=r"four\.nii is 4D"):
            load(image, str(write_volume("four.nii", np.zeros((*SHAPE, 2), np.uint8))), LESION)
        holes = self.mask(np.float32)
        holes[0, 0, 0] = np.nan
        with pytest.raises(InputError, match=r"holes\.nii holds 1 NaN"):
            load(image, str(write_volume("holes.nii", holes)), LESION)

    def test_a_mask_comes_to_the_image_by_the_nearest_voxel(
        self, image: dict[str, Any], write_volume: Write, oblique: NDArray[Any]
    ) -> None:
        """Oracle: for every voxel of the image, the mask's voxel whose centre is closest in mm."""
        other = np.diag([-1.3, 0.8, 1.1, 1.0])
        other[:3, 3] = oblique[:3, :3] @ [3, 3, 2] + oblique[:3, 3] + [6.1, -3.7, -4.2]
        mask = (np.random.default_rng(1).random((9, 8, 7)) > 0.5).astype(np.uint8)
        found = load(image, str(write_volume("mask.nii.gz", mask, other)), LESION, resample=True)
        wanted, inside = np.zeros(SHAPE, np.uint8), 0
        for place in np.ndindex(*SHAPE):
            at = np.linalg.inv(other) @ oblique @ [*place, 1]
            nearest = np.floor(at[:3] + 0.5).astype(int)
            if (nearest >= 0).all() and (nearest < mask.shape).all():
                wanted[place] = mask[tuple(nearest)]
                inside += 1
        assert 20 < inside < np.prod(SHAPE)
        assert np.array_equal(found[0].numpy(), wanted)
        assert (found.dtype, found.shape) == (torch.uint8, (1, *SHAPE))
        np.testing.assert_allclose(found.affine, oblique, atol=1e-6)

    def test_another_grid_is_refused_where_it_may_not_be_resampled(
        self, image: dict[str, Any], write_volume: Write, oblique: NDArray[Any]
    ) -> None:
        path = str(write_volume("mask.nii", self.mask()[:-1]))
        with pytest.raises(InputError, match=r"mask\.nii lies on another grid than \S*image\.nii\.gz: reslice it"):
            load(image, path, LESION)
        near, far = oblique.copy(), oblique.copy()
        near[1, 3] += 0.05  # a tenth of the smallest side is 0.09 mm
        far[1, 3] += 0.2
        assert load(image, str(write_volume("near.nii", self.mask(), near)), LESION).any()
        with pytest.raises(InputError, match=r"far\.nii lies on another grid"):
            load(image, str(write_volume("far.nii", self.mask(), far)), LESION)

    def test_a_mask_elsewhere_in_the_world_is_refused(
        self, image: dict[str, Any], write_volume: Write, oblique: NDArray[Any]
    ) -> None:
        oblique[0, 3] += 500
        with pytest.raises(InputError, match=r"mask\.nii does not overlap \S*image\.nii\.gz: check"):
            load(image, str(write_volume("mask.nii", self.mask(), oblique)), LESION, resample=True)
        empty = str(write_volume("empty.nii", np.zeros(SHAPE, np.uint8), oblique))
        assert not load(image, empty, LESION, resample=True).any()
