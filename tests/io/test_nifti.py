from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.image_list import image_list
from scripts.io.read import read_header, read_volume
from scripts.io.volume_reader import load_volume

RAMP = np.arange(60, dtype=np.float32).reshape(4, 5, 3)


def placed(path: Path, affine: NDArray[np.float64], sform: int, qform: int) -> Path:
    image = nib.Nifti1Image(RAMP, None)
    image.header.set_zooms(np.linalg.norm(affine[:3, :3], axis=0))
    image.header.set_sform(affine, code=sform)
    image.header.set_qform(affine, code=qform)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_that_is_placed_nowhere_is_refused(tmp_path: Path, oblique: NDArray[np.float64], ending: str) -> None:
    path = placed(tmp_path / f"scan{ending}", oblique, 0, 0)
    for read in (read_header, read_volume, image_list, load_volume):
        with pytest.raises(InputError, match=r"scan\.nii\S* has neither sform nor qform, so no spacing"):
            read(path)


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (4, 1)])
def test_one_of_both_is_enough(tmp_path: Path, oblique: NDArray[np.float64], sform: int, qform: int) -> None:
    path = placed(tmp_path / "scan.nii", oblique, sform, qform)
    header = read_header(path)
    np.testing.assert_allclose(header.affine, oblique, atol=1e-5)
    assert (header.path, header.shape) == (path, (4, 5, 3))
    voxels, affine = read_volume(path)
    np.testing.assert_array_equal(voxels, RAMP)
    np.testing.assert_allclose(affine, oblique, atol=1e-5)


def test_a_volume_in_any_order_is_the_same_world(tmp_path: Path, oblique: NDArray[np.float64]) -> None:
    turned = nib.Nifti1Image(RAMP, oblique).as_reoriented([[2, -1], [0, 1], [1, -1]])
    nib.save(turned, tmp_path / "scan.nii")
    voxels, affine = read_volume(tmp_path / "scan.nii")
    np.testing.assert_array_equal(voxels, RAMP)
    np.testing.assert_allclose(affine, oblique, atol=1e-5)


def test_grids_that_differ_by_more_than_a_tenth_of_a_voxel(tmp_path: Path, oblique: NDArray[np.float64]) -> None:
    first = read_header(placed(tmp_path / "a.nii", oblique, 1, 0))
    for shift, same in ((0.08, True), (0.1, False)):  # a tenth of 0.9 mm is 0.09 mm
        moved = oblique.copy()
        moved[2, 3] += shift
        other = read_header(placed(tmp_path / "b.nii", moved, 1, 0))
        if same:
            check_same_grid(first, other)
        else:
            with pytest.raises(InputError, match=r"b\.nii has another affine than a\.nii \(corners up to 0\.1 mm"):
                check_same_grid(first, other)


def test_another_format_is_told_as_such(tmp_path: Path) -> None:
    nib.save(nib.MGHImage(np.ones((3, 3, 3), np.float32), np.eye(4)), tmp_path / "head.mgz")
    with pytest.raises(InputError, match=r"head\.mgz is no image that can be read"):
        read_header(tmp_path / "head.mgz")
