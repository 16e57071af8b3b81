from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose
from numpy.typing import NDArray

from scripts.errors import InputError, find_input_error
from scripts.io.read import read_volume
from scripts.io.volume_reader import load_volume
from tests.io.loading import loading


@pytest.fixture
def image(tmp_path: Path) -> Path:
    voxels = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1
    nib.save(nib.Nifti1Image(voxels, np.diag([-2.0, 1, 1, 1])), tmp_path / "b.nii.gz")
    return tmp_path / "b.nii.gz"


def test_volumes_are_turned_to_ras_and_keep_their_file(image: Path) -> None:
    loaded = Compose(loading())({"image": str(image), "other": 1})
    volume = loaded["image"]
    expected = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[::-1] + 1
    np.testing.assert_array_equal(volume.numpy()[0], expected)
    np.testing.assert_array_equal(volume.affine, [[2, 0, 0, -2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert volume.meta["filename_or_obj"] == str(image)
    assert loaded["other"] == 1


def test_the_own_grid_is_remembered(image: Path) -> None:
    volume = load_volume(image)
    np.testing.assert_array_equal(volume.meta["original_affine"], np.diag([-2.0, 1, 1, 1]))
    assert list(volume.meta["spatial_shape"]) == [2, 3, 4]


@pytest.mark.parametrize("turn", [[[2, -1], [0, 1], [1, -1]], [[1, 1], [0, -1], [2, 1]]])
def test_as_read_volume(tmp_path: Path, oblique: NDArray[np.float64], turn: list[list[int]]) -> None:
    voxels = np.random.default_rng(0).random((4, 5, 3), np.float32) + 1
    nib.save(nib.Nifti1Image(voxels, oblique).as_reoriented(turn), tmp_path / "scan.nii")
    expected, affine = read_volume(tmp_path / "scan.nii")
    for volume in (load_volume(tmp_path / "scan.nii"), Compose(loading())({"image": tmp_path / "scan.nii"})["image"]):
        np.testing.assert_array_equal(volume.numpy()[0], expected)
        np.testing.assert_array_equal(volume.affine, affine)
        assert (volume.dtype, volume.affine.dtype) == (torch.float32, torch.float64)


def nan(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.full((2, 2, 2), np.nan, np.float32), np.eye(4)), path)


def black(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), path)


def text(path: Path) -> None:
    path.write_text("no image")


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (nan, "holds 8 NaN or infinite voxels"),
        (black, "holds no voxel above 0"),
        (text, "cannot be read as NIfTI"),
        (Path.unlink, "does not exist"),
    ],
    ids=["nan", "black", "text", "gone"],
)
def test_what_is_wrong_is_told_and_no_other_reader_tries(image: Path, damage: object, line: str) -> None:
    damage(image)  # type: ignore[operator]
    with pytest.raises(InputError, match=line):
        load_volume(image)
    with pytest.raises(RuntimeError) as caught:
        Compose(loading())({"image": str(image)})
    told = str(find_input_error(caught.value))
    assert told.startswith(str(image))
    assert line in told
    assert "\n" not in told
