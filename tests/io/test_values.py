"""Values that float32 cannot work with, and headers that claim more than memory, are told before harm is done."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.errors import InputError
from scripts.io.read import read_header, read_volume
from scripts.io.volume_reader import VolumeReader, load_volume
from scripts.views.normalise import mean_and_deviation
from tests.io.heads import SHAPE, both, nifti, put, voxels


@pytest.mark.parametrize(
    ("values", "peak"),
    [
        (voxels() * np.float32(1e15), "9.99e+17"),
        (-voxels() * np.float32(1e30), "9.99e+32"),
        (voxels().astype(np.float64) * 1e300, "9.99e+302"),
        (voxels().astype(np.float64) * 1e-300, "9.99e-298"),
        (voxels() * np.float32(1e-30), "9.99e-28"),
    ],
)
def test_values_out_of_range(tmp_path: Path, values: np.ndarray, peak: str) -> None:
    path = nifti(tmp_path / "head.nii", values=values)
    with pytest.raises(InputError) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path} holds values up to {peak}: scale it, so that")


@pytest.mark.parametrize("slope", [1e30, 1e37, 1e-30])
def test_a_slope_counts(tmp_path: Path, slope: float) -> None:
    path = nifti(tmp_path / "head.nii", put("f", 112, slope), voxels().astype(np.int16))
    with pytest.raises(InputError, match="holds values up to"):
        read_volume(path)


@pytest.mark.parametrize("factor", [1e12, 1e-12])
def test_values_in_range_are_read_and_normalised(tmp_path: Path, factor: float) -> None:
    path = nifti(tmp_path / "head.nii", values=voxels().astype(np.float64) * factor)
    found, _ = read_volume(path)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, voxels() * factor, rtol=1e-6)
    image = torch.from_numpy(found)[None]
    _, deviation = mean_and_deviation(image, torch.ones_like(image, dtype=torch.bool))
    assert float(deviation) == pytest.approx(voxels().std() * factor, rel=1e-3)


def test_nothing_but_zeros_is_in_range(tmp_path: Path) -> None:
    assert not read_volume(nifti(tmp_path / "mask.nii", values=np.zeros(SHAPE, np.float32)))[0].any()


def test_the_reader_sets_nan_to_zero_where_told(tmp_path: Path) -> None:
    values = voxels()
    values[2, 3, 4] = np.nan
    values[3, 3, 4] = np.inf
    path = nifti(tmp_path / "head.nii", values=values)
    with pytest.raises(InputError, match="holds 2 NaN or infinite voxels"):
        load_volume(path)
    found, _ = VolumeReader(nan="zero").get_data(path)
    assert found[2, 3, 4] == found[3, 3, 4] == 0
    assert np.count_nonzero(found == 0) == 2
    with pytest.raises(InputError, match="nan='mean' is unknown"):
        VolumeReader(nan="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("side", [30000, 2000])
def test_a_header_that_claims_more_than_its_file(tmp_path: Path, ending: str, side: int) -> None:
    plain = nifti(tmp_path / "head.nii", both(*(put("h", 42 + 2 * axis, side) for axis in range(3))))
    path = tmp_path / f"huge{ending}"
    path.write_bytes(gzip.compress(plain.read_bytes()) if ending == ".nii.gz" else plain.read_bytes())
    tracemalloc.start()
    for read in (read_header, read_volume):
        with pytest.raises(InputError, match=r"is cut off or damaged \(\d+ of \d+ bytes\): copy it again"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


def test_what_follows_the_voxels_is_checked_but_takes_no_memory(tmp_path: Path) -> None:
    content = nifti(tmp_path / "head.nii").read_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(content + bytes(200_000_000)))
    tracemalloc.start()
    found, _ = read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 4e7
    tracemalloc.stop()
    np.testing.assert_array_equal(found, voxels())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"bomb\.nii\.gz is cut off or damaged \(its end is missing\)"):
        read_volume(path)


def test_a_file_compressed_in_parts(tmp_path: Path) -> None:
    content = nifti(tmp_path / "head.nii").read_bytes()
    path = tmp_path / "parts.nii.gz"
    path.write_bytes(b"".join(gzip.compress(content[n : n + 7000]) for n in range(0, len(content), 7000)))
    np.testing.assert_array_equal(read_volume(path)[0], voxels())
    path.write_bytes(path.read_bytes() + b"garbage")
    with pytest.raises(InputError, match="something else follows the data"):
        read_volume(path)
