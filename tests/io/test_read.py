"""NRRD, MetaImage and DICOM series read as the NIfTI file of the same image is."""

from __future__ import annotations

import locale
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its own pages use
from monai.transforms import Compose

from scripts.data.patches import VolumeDataset
from scripts.errors import InputError
from scripts.io.dicom import list_series
from scripts.io.image_list import image_list
from scripts.io.read import read_header, read_volume, stem
from scripts.io.volume_reader import load_volume
from tests.io.loading import loading

SHAPE = (7, 9, 5)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def placed(axes: str) -> np.ndarray:
    """An oblique, anisotropic affine whose voxel axes run about along given directions, such as LPS."""
    a, b = np.deg2rad(11), np.deg2rad(-7)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    upright = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), SHAPE)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = turn @ upright @ np.diag([0.9, 1.1, 2.5])
    affine[:3, 3] = [12.5, -30.25, 41]
    return affine


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 4000, SHAPE).astype(np.int16)


def itk_image(voxels: np.ndarray, affine: np.ndarray) -> Any:
    image = sitk.GetImageFromArray(voxels.transpose())
    matrix = LPS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    return image


def write_series(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    uid: str = "1.2.826.0.1.3680043.2.1125.1",
    name: str = "t1 mprage",
    slope: float = 1.0,
    leave_out: tuple[int, ...] = (),
    tags: dict[str, str] | None = None,
) -> Path:
    """Write a series as a scanner's export has it: names without ending, in no order, a slice per file."""
    folder.mkdir(parents=True, exist_ok=True)
    matrix = LPS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    across, down = (matrix[:3, n] / spacing[n] for n in (0, 1))
    before = locale.setlocale(locale.LC_CTYPE)
    for k in range(voxels.shape[2]):
        if k in leave_out:
            continue
        image = sitk.GetImageFromArray(voxels[:, :, k].T[None])
        image.SetSpacing([*map(float, spacing[:2]), float(spacing[2])])
        position = matrix[:3, 3] + k * matrix[:3, 2]
        content = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"{uid}.{k + 1}",
            "0008|0060": "MR",
            "0008|103e": name,
            "0010|0020": "nobody",
            "0018|0050": f"{spacing[2]:.8f}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.0",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.8f}" for x in position),
            "0020|0037": "\\".join(f"{x:.10f}" for x in (*across, *down)),
            "0028|1052": "0",
            "0028|1053": f"{slope:g}",
            **(tags or {}),
        }
        for key, value in content.items():
            image.SetMetaData(key, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        path = folder / "part.dcm"
        writer.SetFileName(str(path))
        writer.Execute(image)
        path.rename(folder / f"IM{(k * 7) % 997:03d}-{uid[-1]}")
    locale.setlocale(locale.LC_CTYPE, before)  # GDCM sets the whole process to C, in which Python reads files as ASCII
    return folder


def presentation_state() -> bytes:
    """A DICOM object without pixels, of the class that viewers write beside slices (PS3.3 A.33.1)."""

    def element(group: int, number: int, kind: bytes, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind, len(value)) + value

    storage, explicit = b"1.2.840.10008.5.1.4.1.1.11.1", b"1.2.840.10008.1.2.1"
    meta = element(2, 2, b"UI", storage) + element(2, 3, b"UI", b"1.2.3") + element(2, 0x10, b"UI", explicit)
    content = element(8, 0x16, b"UI", storage) + element(8, 0x18, b"UI", b"1.2.3") + element(8, 0x60, b"CS", b"PR")
    content += element(0x20, 0xD, b"UI", b"1.2.826.0.1.3680043.2.1125.0") + element(0x20, 0xE, b"UI", b"1.2.4")
    return b"\0" * 128 + b"DICM" + element(2, 0, b"UL", struct.pack("<I", len(meta))) + meta + content


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "IAL"])
@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nhdr", ".mhd"])
def test_a_file_is_read_as_the_nifti_of_the_same_image(
    axes: str, ending: str, voxels: np.ndarray, tmp_path: Path
) -> None:
    nib.save(nib.Nifti1Image(voxels, placed(axes)), tmp_path / "head.nii.gz")
    sitk.WriteImage(itk_image(voxels, placed(axes)), str(tmp_path / f"head{ending}"))
    header = read_header(tmp_path / f"head{ending}")
    assert header.shape == SHAPE
    np.testing.assert_allclose(header.affine, placed(axes), atol=1e-5)
    expected, affine = read_volume(tmp_path / "head.nii.gz")
    found, where = read_volume(tmp_path / f"head{ending}")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(where, affine, atol=1e-5)
    assert stem(tmp_path / f"head{ending}") == "head"


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "IAL"])
def test_a_dicom_series_is_read_as_the_nifti_of_the_same_image(axes: str, voxels: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(voxels, placed(axes)), tmp_path / "head.nii.gz")
    folder = write_series(tmp_path / "0003_t1", voxels, placed(axes))
    expected, affine = read_volume(tmp_path / "head.nii.gz")
    found, where = read_volume(folder)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(where, affine, atol=1e-4)
    assert image_list(folder, any_size=True) == [{"image": str(folder)}]
    assert stem(folder) == "0003_t1"
    loaded = load_volume(folder)
    np.testing.assert_array_equal(loaded.numpy()[0], expected)


def test_slopes_are_applied_and_slices_sorted_by_place(voxels: np.ndarray, tmp_path: Path) -> None:
    whole = (voxels // 4 * 5).astype(np.int16)
    folder = write_series(tmp_path / "series", whole, placed("RAS"), slope=5)
    assert {sitk.ReadImage(str(path)).GetMetaData("0028|1053").strip() for path in folder.iterdir()} == {"5"}
    found, _ = read_volume(folder)
    np.testing.assert_array_equal(found, whole)
    assert list(list_series(folder).values()) == [("t1 mprage", SHAPE[2])]


def test_loaded_images_know_their_own_grid(voxels: np.ndarray, tmp_path: Path) -> None:
    sitk.WriteImage(itk_image(voxels, placed("PSR")), str(tmp_path / "head.nrrd"))
    loaded = load_volume(tmp_path / "head.nrrd")
    np.testing.assert_allclose(loaded.meta["original_affine"], placed("PSR"), atol=1e-5)
    assert loaded.meta["spatial_shape"].tolist() == list(SHAPE)
    assert nib.aff2axcodes(loaded.affine.numpy()) == ("R", "A", "S")


class TestRefusals:
    def refused(self, given: Any) -> str:
        with pytest.raises(InputError) as caught:
            image_list(given)
        line = str(caught.value)
        assert "\n" not in line
        return line

    def test_several_series_in_one_folder_are_listed(self, voxels: np.ndarray, tmp_path: Path) -> None:
        write_series(tmp_path, voxels, placed("RAS"))
        write_series(tmp_path, voxels[:, :, :3], placed("RAS"), uid="1.2.826.0.1.3680043.2.1125.2", name="localizer")
        line = self.refused(tmp_path)
        assert f"{tmp_path} holds 2 DICOM series" in line
        assert "t1 mprage, 5 files" in line
        assert "localizer, 3 files" in line

    def test_a_folder_of_series_says_which_there_are(self, voxels: np.ndarray, tmp_path: Path) -> None:
        write_series(tmp_path / "study" / "0001_t1", voxels, placed("RAS"))
        assert "holds folders of DICOM series (0001_t1): give the one to use" in self.refused(tmp_path / "study")

    def test_a_missing_slice_is_told_with_its_place(self, voxels: np.ndarray, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "series", voxels, placed("RAS"), leave_out=(2,))
        assert "lacks slices: 5 mm lie between slices 2 and 3, elsewhere 2.5" in self.refused(folder)

    def test_slices_at_one_place_are_told(self, voxels: np.ndarray, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "series", voxels, placed("RAS"))
        (again,) = sorted(folder.iterdir())[:1]
        shutil.copy(again, folder / "again")
        assert "holds several slices at one place" in self.refused(folder)

    @pytest.mark.parametrize("kept", [0, 100, 200, 500, 700])
    def test_a_damaged_slice_at_the_end_is_told(self, kept: int, voxels: np.ndarray, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "series", voxels, placed("RAS"))
        last = next(path for path in folder.iterdir() if b".1125.1.5" in path.read_bytes())
        cut = last.rename(last.with_suffix(".dcm"))
        cut.write_bytes(cut.read_bytes()[:kept])
        with pytest.raises(InputError, match=r"IM\d+-1\.dcm is cut off or damaged: copy it again"):
            read_volume(folder)

    def test_a_presentation_state_beside_slices_is_passed_over(self, voxels: np.ndarray, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "series", voxels, placed("RAS"))
        (folder / "PS000").write_bytes(presentation_state())
        (folder / "readme.txt").write_text("exported on a Monday")
        assert np.array_equal(read_volume(folder)[0], voxels)

    def test_one_file_of_a_series_is_no_image(self, voxels: np.ndarray, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "series", voxels, placed("RAS"))
        first = next(folder.iterdir())
        assert f"{first} is one DICOM file: give the folder of its series" in self.refused(first)

    def test_a_series_of_two_orientations_is_told(self, voxels: np.ndarray, tmp_path: Path) -> None:
        write_series(tmp_path / "series", voxels[:, :, :3], placed("RAS"))
        for path in write_series(tmp_path / "other", voxels[:, :, 3:], placed("PSR")).iterdir():
            shutil.copy(path, tmp_path / "series" / f"other-{path.name}")
        assert "holds slices of several sizes or orientations" in self.refused(tmp_path / "series")

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda v: sitk.GetImageFromArray(np.zeros((4, 4, 4, 3)), isVector=True), "voxels of the kind 'vector of"),
            (lambda v: sitk.GetImageFromArray(v[:, :, 0]), "is 2D"),
            (lambda v: sitk.JoinSeries([itk_image(v, np.eye(4))] * 2), "is 4D"),
        ],
        ids=["vector", "slice", "series"],
    )
    def test_a_file_that_is_no_volume_is_told(
        self, make: Callable[[np.ndarray], Any], told: str, voxels: np.ndarray, tmp_path: Path
    ) -> None:
        sitk.WriteImage(make(voxels), str(tmp_path / "head.nrrd"))
        line = self.refused(tmp_path / "head.nrrd")
        assert line.startswith(str(tmp_path / "head.nrrd"))
        assert told in line

    def test_damage_is_told(self, voxels: np.ndarray, tmp_path: Path) -> None:
        sitk.WriteImage(itk_image(voxels, np.eye(4)), str(tmp_path / "head.nrrd"))
        content = (tmp_path / "head.nrrd").read_bytes()
        (tmp_path / "head.nrrd").write_bytes(content[:-200])
        with pytest.raises(InputError, match=r"head\.nrrd is cut off or damaged"):
            read_volume(tmp_path / "head.nrrd")
        (tmp_path / "text.nrrd").write_text("no image")
        assert "text.nrrd cannot be read as NRRD" in self.refused(tmp_path / "text.nrrd")
        with pytest.raises(InputError, match=r"gone\.nrrd does not exist"):
            read_volume(tmp_path / "gone.nrrd")


def test_what_is_loaded_can_be_kept_on_disk(voxels: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(voxels, placed("PSR")), tmp_path / "head.nii.gz")
    item = {"image": str(tmp_path / "head.nii.gz")}
    data = VolumeDataset([item], Compose(loading()), cache_dir=tmp_path / "cache")
    first, again = data[0]["image"], data[0]["image"]
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    np.testing.assert_allclose(again.meta["original_affine"], placed("PSR"), atol=1e-5)
    assert again.meta["spatial_shape"].tolist() == list(SHAPE)
