"""Enhanced (multi-frame) DICOM files are read where they hold one volume."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from scripts.errors import InputError
from scripts.io.image_list import image_list
from scripts.io.read import read_header, read_volume, stem
from tests.io.test_read import LPS, SHAPE, placed, write_series

ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"
Edit = Callable[[Any], object]


@pytest.fixture
def voxels() -> np.ndarray:
    return np.random.default_rng(3).integers(1, 4000, SHAPE).astype(np.uint16)


def nested(**values: Any) -> Any:
    """A dataset; a list stands for a sequence of such."""
    dataset = pydicom.Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def write_enhanced(
    path: Path, voxels: np.ndarray, affine: np.ndarray, *, times: int = 1, edit: Edit | None = None
) -> Path:
    """Write a volume as the frames of a file, from the last slice to the first; several times with echoes."""
    matrix = LPS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    turn = [float(f"{x:.8f}") for n in (0, 1) for x in matrix[:3, n] / spacing[n]]
    order = [(echo, k) for echo in range(times) for k in reversed(range(voxels.shape[2]))]
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ENHANCED, "1.2.826.0.1.3680043.2.1125.9"
    meta.TransferSyntaxUID, meta.ImplementationClassUID = pydicom.uid.ExplicitVRLittleEndian, "1.2.826.0.1.3680043.2"
    file = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.is_little_endian, file.is_implicit_VR = True, False
    file.SOPClassUID, file.SOPInstanceUID = ENHANCED, meta.MediaStorageSOPInstanceUID
    file.StudyInstanceUID, file.SeriesInstanceUID = "1.2.826.0.1.3680043.2.1", "1.2.826.0.1.3680043.2.2"
    file.FrameOfReferenceUID, file.Modality, file.SeriesDescription = "1.2.826.0.1.3680043.2.3", "MR", "t1"
    file.Manufacturer, file.SeriesNumber, file.InstanceNumber = "SIEMENS", 6, 1
    file.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    file.Columns, file.Rows, file.NumberOfFrames = voxels.shape[0], voxels.shape[1], len(order)
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PixelRepresentation = 1, "MONOCHROME2", 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 16, 15
    measures = nested(PixelSpacing=[f"{spacing[1]:.8f}", f"{spacing[0]:.8f}"], SliceThickness=f"{spacing[2]:.6f}")
    scale = nested(RescaleSlope="2", RescaleIntercept="-100", RescaleType="US")
    file.SharedFunctionalGroupsSequence = [
        nested(
            PixelMeasuresSequence=[measures],
            PlaneOrientationSequence=[nested(ImageOrientationPatient=turn)],
            PixelValueTransformationSequence=[scale],
        )
    ]
    file.PerFrameFunctionalGroupsSequence = [
        nested(
            PlanePositionSequence=[
                nested(ImagePositionPatient=[float(f"{x:.6f}") for x in (matrix @ [0, 0, k, 1])[:3]])
            ],
            FrameContentSequence=[nested(StackID="1", InStackPositionNumber=k + 1, DimensionIndexValues=[1, k + 1])],
            MREchoSequence=[nested(EffectiveEchoTime=10.0 * (echo + 1))],
        )
        for echo, k in order
    ]
    file.PixelData = np.stack([voxels[:, :, k].T for _, k in order]).astype("<u2").tobytes()
    file["PixelData"].VR = "OW"
    if edit is not None:
        edit(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    file.save_as(str(path), write_like_original=False)
    return path


def refused(given: Path) -> str:
    with pytest.raises(InputError) as caught:
        image_list(given, any_size=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "IAL"])
def test_it_is_read_as_the_nifti_of_the_same_image(axes: str, voxels: np.ndarray, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(voxels.astype(np.float32) * 2 - 100, placed(axes)), tmp_path / "head.nii.gz")
    file = write_enhanced(tmp_path / "series" / "head.dcm", voxels, placed(axes))
    expected, affine = read_volume(tmp_path / "head.nii.gz")
    for given in (file, file.parent):
        found, where = read_volume(given)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(where, affine, atol=1e-4)
        assert image_list(given, any_size=True) == [{"image": str(given)}]
    assert stem(file) == "head"
    assert read_header(file).shape == SHAPE


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="compares with dcm2niix")
@pytest.mark.parametrize("axes", ["RAS", "LPS", "PSR", "IAL"])
def test_it_is_read_as_dcm2niix_reads_it(axes: str, voxels: np.ndarray, tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "series" / "head.dcm", voxels, placed(axes))
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "theirs", "-o", str(tmp_path), str(file.parent)]
    subprocess.run(command, check=True, capture_output=True)
    theirs, affine = read_volume(tmp_path / "theirs.nii")
    found, where = read_volume(file)
    np.testing.assert_allclose(found, theirs, atol=1e-3)
    np.testing.assert_allclose(where, affine, atol=2e-3)


def test_several_volumes_in_a_file_are_counted(voxels: np.ndarray, tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "echoes.dcm", voxels, placed("RAS"), times=3)
    line = f"{file} holds 3 volumes of 5 slices (EffectiveEchoTime 10.0, 20.0, 30.0): convert it with dcm2niix"
    assert refused(file).startswith(line)


def test_several_files_with_a_volume_each_are_counted(voxels: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.dcm", "b.dcm"):
        uid = f"1.2.826.0.1.3680043.2.1125.9{ord(name[0])}"
        write_enhanced(
            tmp_path / name, voxels, placed("RAS"), edit=lambda f, uid=uid: setattr(f, "SOPInstanceUID", uid)
        )
    assert refused(tmp_path) == f"{tmp_path} holds 2 volumes, one in a file each (a.dcm, b.dcm): give one of the files"
    assert image_list(tmp_path / "a.dcm", any_size=True)


def no_positions(file: Any) -> None:
    for group in file.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def no_spacing(file: Any) -> None:
    del file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def spacing_of_0(file: Any) -> None:
    file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = ["0", "0"]


def turned(file: Any) -> None:
    group = file.PerFrameFunctionalGroupsSequence[1]
    group.PlaneOrientationSequence = [nested(ImageOrientationPatient=[1, 0, 0, 0, 0, -1])]


def scaled(file: Any) -> None:
    group = file.PerFrameFunctionalGroupsSequence[1]
    group.PixelValueTransformationSequence = [nested(RescaleSlope="3", RescaleIntercept="0", RescaleType="US")]


def gap(file: Any) -> None:
    position = file.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0]
    position.ImagePositionPatient = [2 * float(x) + 50 for x in position.ImagePositionPatient]


def too_few_groups(file: Any) -> None:
    del file.PerFrameFunctionalGroupsSequence[-1]


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (no_positions, "does not say where its frames lie (ImagePositionPatient is missing)"),
        (no_spacing, "does not say where its frames lie (PixelSpacing is missing)"),
        (spacing_of_0, "says no size of its pixels"),
        (turned, "holds frames of several orientations"),
        (scaled, "scales the values of its frames each in another way"),
        (gap, "lacks slices"),
        (too_few_groups, "says of 4 frames where they lie, of 5"),
    ],
)
def test_what_makes_no_volume(edit: Edit, line: str, voxels: np.ndarray, tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "head.dcm", voxels, placed("RAS"), edit=edit)
    assert refused(file).startswith(str(file))
    assert line in refused(file)


def test_damage(voxels: np.ndarray, tmp_path: Path) -> None:
    file = write_enhanced(tmp_path / "head.dcm", voxels, placed("RAS"))
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"head\.dcm .*: copy it again"):
        read_volume(file)


def test_a_slice_of_a_classic_series_is_still_no_image(voxels: np.ndarray, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", voxels.astype(np.int16), placed("RAS"))
    assert "is one DICOM file: give the folder of its series" in refused(next(folder.iterdir()))
