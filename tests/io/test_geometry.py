"""A size that a file does not state is never assumed; a size that no head has is asked about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.errors import InputError
from scripts.io.image_list import image_list
from scripts.io.read import read_header, read_volume
from tests.io.heads import SHAPE, SPACING, Edit, both, itk, nifti, put, replace_line
from tests.io.test_read import placed, write_series

PIXDIM, SFORM, SROW, UNITS, OFFSET = 76, 254, 280, 123, 108
NO_SFORM = put("h", SFORM, 0)


def told(path: Path, *, any_size: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        image_list(path, any_size=any_size)
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    return line


def test_a_proper_head_is_taken(tmp_path: Path) -> None:
    for name in ("a.nii", "b.nrrd", "c.mha", "d.mhd", "e.nhdr"):
        path = nifti(tmp_path / name) if name == "a.nii" else itk(tmp_path / name)
        assert image_list(path) == [{"image": str(path)}]
        np.testing.assert_allclose(np.linalg.norm(read_header(path).affine[:3, :3], axis=0), SPACING)


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (put("f", PIXDIM + 12, 0), "has pixdim [4.0, 4.0, 0.0], which is no voxel size"),
        (both(put("f", PIXDIM + 12, 0), NO_SFORM), "has pixdim [4.0, 4.0, 0.0], which is no voxel size"),
        (both(put("f", PIXDIM + 4, -4), NO_SFORM), "has pixdim [-4.0, 4.0, 5.0], which is no voxel size"),
        (both(put("f", PIXDIM + 8, float("nan")), NO_SFORM), "which is no voxel size"),
        (put("f", SROW, float("nan")), "has a singular affine"),
        (put("f", SROW + 12, float("inf")), "has a singular affine"),
        (both(put("f", 256, 5), NO_SFORM), "has a singular affine"),
        (put("f", OFFSET, 0), "has voxels from byte 0 on, but its header ends at 352"),
        (put("f", OFFSET, 348), "has voxels from byte 348 on"),
        (put("f", OFFSET, float("nan")), "has voxels from byte nan on"),
        (put("b", UNITS, 1), "is in metres (xyzt_units), not in mm"),
        (put("b", UNITS, 3), "is in microns (xyzt_units), not in mm"),
        (put("b", UNITS, 5), "is in unknown units"),
    ],
)
def test_nifti(tmp_path: Path, edit: Edit, line: str) -> None:
    path = nifti(tmp_path / "head.nii", edit)
    assert line in told(path, any_size=True)
    with pytest.raises(InputError):
        read_volume(path)


def test_units_that_are_not_said_are_millimetres(tmp_path: Path) -> None:
    assert image_list(nifti(tmp_path / "head.nii", put("b", UNITS, 0)))


@pytest.mark.parametrize(
    ("ending", "key", "line", "lack"),
    [
        ("mhd", "ElementSpacing", None, "says no voxel size (ElementSpacing: missing)"),
        ("mha", "ElementSpacing", None, "says no voxel size (ElementSpacing: missing)"),
        ("mha", "ElementSpacing", "ElementSpacing = 4 0 5", "says no voxel size (ElementSpacing: 4 0 5)"),
        ("mha", "ElementSpacing", "ElementSpacing = 4 -4 5", "says no voxel size"),
        ("mha", "ElementSpacing", "ElementSpacing = nan 4 5", "says no voxel size"),
        ("mhd", "TransformMatrix", None, "says no orientation (TransformMatrix: missing)"),
        ("mha", "CenterOfRotation", "DistanceUnits = um", "is in 'um', not in mm"),
        (
            "nrrd",
            "space directions",
            "spacings: 4 4 5",
            "says no voxel size and orientation (space directions: missing)",
        ),
        ("nhdr", "space:", "space: scanner-xyz", "says no anatomical orientation (space: scanner-xyz)"),
        ("nrrd", "endian", 'endian: little\nspace units: "um" "um" "um"', "is in 'um', not in mm"),
    ],
)
def test_nrrd_and_meta_image(tmp_path: Path, ending: str, key: str, line: str | None, lack: str) -> None:
    path = replace_line(itk(tmp_path / f"head.{ending}"), key, line)
    if key == "space directions":
        replace_line(replace_line(path, "space:", "space dimension: 3"), "space origin", None)
        replace_line(path, "space dimension", None)
    assert lack in told(path, any_size=True)


@pytest.mark.parametrize("spacing", ["", "0\\0", "4\\0", "-4\\4", "nan\\4"])
def test_dicom_without_a_size_of_its_pixels(tmp_path: Path, spacing: str) -> None:
    volume = np.ones((16, 18, 5), np.int16)
    folder = write_series(tmp_path / "series", volume, placed("LPS"))
    for file in folder.iterdir():
        _set_pixel_spacing(file, spacing)
    with pytest.raises(InputError, match="does not say how large its pixels are: give a series") as caught:
        image_list(folder, any_size=True)
    assert str(folder) in str(caught.value)


def _set_pixel_spacing(file: Path, spacing: str) -> None:
    """Write a value of PixelSpacing, an element of implicit VR, in as many bytes as its own."""
    content = bytearray(file.read_bytes())
    at = content.index(b"\x28\x00\x30\x00") + 8
    length = int.from_bytes(content[at - 4 : at], "little")
    content[at : at + length] = spacing.ljust(length).encode()
    file.write_bytes(content)


def one_voxel(side: float) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), np.diag([side, side, side, 1])), path)
        return path

    return make


@pytest.mark.parametrize(
    ("side", "line"),
    [
        (0.004, "is 0.096 x 0.112 x 0.08 mm large by its header (24 x 28 x 20 voxels of 0.004 x 0.004 x 0.004 mm)"),
        (2.9, "is 69.6 x 81.2 x 58 mm large"),
        (20.0, "is 480 x 560 x 400 mm large"),
        (4000.0, "a head has 60 to 400 mm on each side: mend the header, or type --any_size true"),
    ],
)
def test_a_size_that_no_head_has(tmp_path: Path, side: float, line: str) -> None:
    path = one_voxel(side)(tmp_path / "head.nii.gz")
    assert line in told(path)
    assert image_list(path, any_size=True) == image_list(path, any_size="true") == [{"image": str(path)}]
    with pytest.raises(InputError, match="any_size='perhaps' is neither true nor false"):
        image_list(path, any_size="perhaps")


@pytest.mark.parametrize("n_slices", [1, 2])
def test_a_slab_is_asked_about(tmp_path: Path, n_slices: int) -> None:
    volume = np.ones((24, 28, n_slices), np.float32)
    path = tmp_path / "slab.nii"
    nib.save(nib.Nifti1Image(volume, np.diag([4.0, 4, 5, 1])), path)
    assert "--any_size true" in told(path)
    assert image_list(path, any_size=True)
