from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header, read_volume
from scripts.io.write import move_volume, write_shares
from tests.prepare.conftest import rigid


def write(path: Path, axes: str, dtype: type = np.int16, slope: float = 1.0, kind: type = nib.Nifti1Image) -> Path:
    shape, spacing = (5, 6, 7), (1.0, 1.5, 2.5)
    turn = nib.orientations.axcodes2ornt(tuple(axes))
    affine = np.zeros((4, 4))
    for axis, (world, sign) in enumerate(turn):
        affine[int(world), axis] = sign * spacing[axis]
    affine[3, 3] = 1
    affine = rigid((4.0, -3.0, 8.0), (10.0, -20.0, 5.0)) @ affine
    image = kind(np.random.default_rng(0).integers(0, 200, shape).astype(dtype), affine)
    image.header.set_slope_inter(slope, 0.5 if slope != 1 else 0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("axes", ["RAS", "PSR", "LAS", "IPL"])
def test_shares_lie_on_the_stored_voxels(tmp_path: Path, axes: str) -> None:
    image = write(tmp_path / "image.nii.gz", axes)
    voxels, affine = read_volume(image)
    write_shares(tmp_path / "c1.nii.gz", voxels / 255, image)
    check_same_grid(read_header(image), read_header(tmp_path / "c1.nii.gz"))
    np.testing.assert_allclose(
        nib.load(tmp_path / "c1.nii.gz").get_fdata(), nib.load(image).get_fdata() / 255, atol=1e-6
    )
    again, again_affine = read_volume(tmp_path / "c1.nii.gz")
    write_shares(tmp_path / "c2.nii.gz", again, image)
    assert (tmp_path / "c1.nii.gz").read_bytes() == (tmp_path / "c2.nii.gz").read_bytes()
    np.testing.assert_allclose(affine, again_affine, atol=1e-4)


def test_shares_that_add_up_to_one_do_not_exceed_it(tmp_path: Path) -> None:
    image = write(tmp_path / "image.nii.gz", "RAS")
    shares = np.random.default_rng(1).dirichlet((1, 1, 1), (5, 6, 7)).astype(np.float32)
    stored = []
    for number in range(3):
        write_shares(tmp_path / f"{number}.nii.gz", shares[..., number], image)
        stored.append(nib.load(tmp_path / f"{number}.nii.gz").get_fdata())
        assert np.abs(stored[-1] - shares[..., number]).max() < 1 / 255
    assert np.sum(stored, axis=0).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("name", "dtype", "slope", "kind"),
    [
        ("a.nii.gz", np.int16, 1.0, nib.Nifti1Image),
        ("a.nii", np.uint8, 0.25, nib.Nifti1Image),
        ("a.nii.gz", np.float32, 1.0, nib.Nifti2Image),
        ("a.nii.gz", ">i2", 1.0, nib.Nifti1Image),
    ],
)
def test_a_moved_volume_keeps_its_voxels(tmp_path: Path, name: str, dtype, slope: float, kind: type) -> None:
    source, target = write(tmp_path / name, "PSR", dtype, slope, kind), tmp_path / "moved.nii.gz"
    matrix = rigid((10.0, 5.0, -7.0), (3.0, 4.0, -5.0))
    move_volume(source, target, matrix)
    before, after = nib.load(source), nib.load(target)
    np.testing.assert_array_equal(before.get_fdata(), after.get_fdata())
    assert before.get_data_dtype() == after.get_data_dtype()
    np.testing.assert_allclose(after.affine, matrix @ before.affine, atol=1e-4)
    np.testing.assert_allclose(after.get_qform(), matrix @ before.affine, atol=1e-4)


def test_a_cut_off_volume_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(20, 20, 20)), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"a\.nii\.gz is cut off or damaged"):
        move_volume(path, tmp_path / "b.nii.gz", np.eye(4))
