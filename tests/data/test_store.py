from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.spatial.transform

from scripts.data.qmri import find_subjects, load_maps
from scripts.data.store import prepare_store
from scripts.data.store_read import read_region, read_store_header, read_voxels
from scripts.errors import InputError

ROOT = Path(__file__).parents[2]
ROTATION = scipy.spatial.transform.Rotation.from_euler("xyz", [8, -12, 20], degrees=True).as_matrix()


@pytest.fixture
def stored(cohort, tmp_path):
    return prepare_store(find_subjects(cohort), tmp_path / "cache", progress=False)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_stored_volume_is_the_brain_of_the_scan_in_half_precision(stored):
    for entry in stored:
        maps, affine = load_maps(entry)
        volume, header = np.load(entry["store"]), read_store_header(entry["store"])
        assert volume.dtype == np.float16
        assert volume.shape == (len(header.maps), *header.shape)
        box = tuple(slice(o, o + n) for o, n in zip(header.offset, header.shape, strict=True))
        np.testing.assert_allclose(volume, maps[(slice(None), *box)], rtol=2**-11)
        outside = maps.copy()
        outside[(slice(None), *box)] = 0
        assert not outside.any()
        for axis in (1, 2, 3):  # no slice of the box is without brain: it is the smallest one
            assert volume.any(axis=tuple({0, 1, 2, 3} - {axis})).all()
        assert header.subject == entry["subject"]
        assert header.original_shape == maps.shape[1:]
        assert header.spacing == (2.0, 2.0, 2.0)
        np.testing.assert_array_equal(header.affine, affine)
    assert [len(read_store_header(entry["store"]).maps) for entry in stored] == [5, 5, 4, 5]


def test_coordinates_lead_back_to_the_source_file(write_subject, tmp_path):
    affine = np.array([[0, 0, -2.0, 30], [-1.5, 0, 0, 20], [0, 1.0, 0, -9], [0, 0, 0, 1]])
    affine = np.block([[ROTATION, np.zeros((3, 1))], [0, 0, 0, 1]]) @ affine  # an oblique scan
    folder = write_subject(affine=affine)
    entry = prepare_store(find_subjects(folder.parents[1]), tmp_path / "cache", progress=False)[0]
    header, voxels = read_store_header(entry["store"]), read_voxels(entry["store"])
    assert header.spacing == pytest.approx((2.0, 1.5, 1.0))
    source = nib.load(folder / "sub-001_PDmap.nii.gz")
    volume = np.load(entry["store"])
    world = nib.affines.apply_affine(header.affine, voxels + np.asarray(header.offset))
    where = np.rint(nib.affines.apply_affine(np.linalg.inv(source.affine), world)).astype(int)
    np.testing.assert_allclose(volume[0][tuple(voxels.T)], source.get_fdata()[tuple(where.T)], rtol=2**-11)


def test_voxels_are_distinct_brain_voxels_spread_over_all_of_it(write_subject, tmp_path):
    folder = write_subject(shape=(30, 30, 30))
    data = find_subjects(folder.parents[1])
    entry = prepare_store(data, tmp_path / "cache", progress=False)[0]
    voxels, brain = read_voxels(entry["store"]), np.load(entry["store"])[0] > 0
    assert voxels.shape == (4096, 3)
    assert brain.sum() > 2 * 4096
    assert len(np.unique(voxels, axis=0)) == 4096
    assert brain[tuple(voxels.T)].all()
    # a uniform sample has the brain's centre, within five standard errors
    every = np.argwhere(brain)
    error = every.std(0) / np.sqrt(4096)
    assert (abs(voxels.mean(0) - every.mean(0)) < 5 * error).all()
    again = prepare_store(data, tmp_path / "other", progress=False)[0]
    np.testing.assert_array_equal(read_voxels(again["store"]), voxels)


@pytest.mark.parametrize(
    ("start", "size"),
    [((2, 3, 1), (5, 6, 7)), ((-4, 2, -1), (30, 5, 9)), ((0, 0, 0), (64, 64, 64)), ((-50, 0, 0), (4, 4, 4))],
    ids=["inside", "over two edges", "around", "beside"],
)
def test_region_equals_a_slice_of_the_padded_volume(stored, start, size):
    volume = np.load(stored[0]["store"])
    padded = np.pad(volume, ((0, 0), (80, 80), (80, 80), (80, 80)))
    expected = padded[(slice(None), *(slice(80 + s, 80 + s + n) for s, n in zip(start, size, strict=True)))]
    region = read_region(stored[0]["store"], start, size)
    assert region.dtype == np.float16
    assert region.flags.c_contiguous
    assert region.flags.writeable
    np.testing.assert_array_equal(region, expected)
    np.testing.assert_array_equal(read_region(stored[0]["store"], start, size, channels=2), expected[:2])


def test_no_mapping_outlives_a_read(stored):
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    kept = [read_region(entry["store"], (0, 0, 0), (8, 8, 8)) for entry in stored]
    assert len(kept) == 4
    assert ".npy" not in maps.read_text(encoding="utf-8")
    held = np.load(stored[0]["store"], mmap_mode="r")  # the check sees a mapping that is there
    assert Path(held.filename).name in maps.read_text(encoding="utf-8")


def test_valid_entries_are_reused_and_stale_ones_rebuilt(cohort, tmp_path):
    data = find_subjects(cohort)
    cache = tmp_path / "cache"
    first = prepare_store(data, cache, progress=False)
    before = times(cache)
    assert prepare_store(data, cache, progress=False) == first
    assert times(cache) == before
    path = Path(data[1]["r1"])
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 1.1, image.affine), path)
    second = prepare_store(data, cache, progress=False)
    assert [a["store"] == b["store"] for a, b in zip(first, second, strict=True)] == [True, False, True, True]
    np.testing.assert_allclose(np.load(second[1]["store"])[1], np.load(first[1]["store"])[1] * 1.1, rtol=3e-3)
    told = prepare_store(data, cache, units={"r1": "1/s"}, progress=False)
    assert not {e["store"] for e in told} & {e["store"] for e in second}


@pytest.mark.parametrize("damage", ["no header", "half a header", "short volume", "no voxels"])
def test_broken_entries_are_built_again(cohort, tmp_path, damage):
    data = find_subjects(cohort)[:1]
    store = Path(prepare_store(data, tmp_path / "cache", progress=False)[0]["store"])
    files = {path: path.read_bytes() for path in store.parent.iterdir()}
    header, voxels = store.with_suffix(".json"), store.with_suffix(".voxels.npy")
    if damage == "no header":
        header.unlink()
    elif damage == "half a header":
        header.write_bytes(files[header][:50])
    elif damage == "short volume":
        store.write_bytes(files[store][:-200])
    else:
        voxels.unlink()
    prepare_store(data, tmp_path / "cache", progress=False)
    assert {path: path.read_bytes() for path in store.parent.iterdir()} == files


@pytest.mark.parametrize("moves", [0, 1, 2, 4], ids=["volume", "voxels", "header", "second scan"])
def test_killed_at_any_moment_it_goes_on_and_ends_the_same(cohort, tmp_path, commands, moves):
    code = f"""
import os, signal, sys
from pathlib import Path
from scripts.data.qmri import find_subjects
from scripts.data.store import prepare_store
move, done = Path.replace, []
def replace(path, target):
    if len(done) == {moves}:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(target)
    return move(path, target)
Path.replace = replace
prepare_store(find_subjects(sys.argv[1]), sys.argv[2], jobs=1, progress=False)
"""
    data, cache = find_subjects(cohort), tmp_path / "cache"
    killed = commands.run([sys.executable, "-c", code, str(cohort), str(cache)], cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(cache.glob("[!.]*"))) == moves
    (left,) = cache.glob(".*")
    os.utime(left, (0, 0))  # what the killed process left is removed once it is old
    resumed = prepare_store(data, cache, progress=False)
    fresh = prepare_store(data, tmp_path / "fresh", progress=False)
    assert [Path(e["store"]).name for e in resumed] == [Path(e["store"]).name for e in fresh]
    contents = [{p.name: p.read_bytes() for p in folder.iterdir()} for folder in (cache, tmp_path / "fresh")]
    assert contents[0] == contents[1]


def test_the_bar_shows_only_when_there_is_work(cohort, tmp_path, capsys):
    data = find_subjects(cohort)
    prepare_store(data, tmp_path / "cache")
    assert "Reading qMRI maps" in capsys.readouterr().err
    prepare_store(data, tmp_path / "cache")
    assert capsys.readouterr().err == ""


def test_all_scans_are_looked_at_before_the_first_problem_is_told(cohort, tmp_path):
    data = find_subjects(cohort)
    for index in (1, 3):
        path = Path(data[index]["r1"])
        path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError) as error:
        prepare_store(data, tmp_path / "cache", progress=False)
    text = str(error.value)
    assert re.search(r"sub-002_R1map\.nii\.gz is cut off or damaged .* \(1 more scans have problems\)$", text)
    assert "\n" not in text
    headers = [json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*.json")]
    assert sorted(header["subject"] for header in headers) == ["sub-001", "sub-003"]
    assert not list((tmp_path / "cache").glob(".*"))


def test_nan_is_an_error_unless_told_otherwise(write_subject, tmp_path):
    def spoil(volume):
        volume[10, 12, 11] = np.nan
        return volume

    data = find_subjects(write_subject(change={"MTsat": spoil}).parents[1])
    with pytest.raises(InputError, match=r"_MTsat\.nii\.gz holds 1 NaN or infinite voxels"):
        prepare_store(data, tmp_path / "cache", progress=False)
    entry = prepare_store(data, tmp_path / "cache", nan="zero", progress=False)[0]
    header = read_store_header(entry["store"])
    voxel = np.array([10, 12, 11]) - header.offset
    np.testing.assert_array_equal(np.load(entry["store"])[(slice(3, 4), *voxel)], [0])


def test_errors_name_the_cache_and_the_files(cohort, tmp_path):
    data = find_subjects(cohort)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cache_dir .*/file cannot be written .*: set another"):
        prepare_store(data, tmp_path / "file", progress=False)
    with pytest.raises(InputError, match=r"gone\.npy is missing or damaged: .*prepare the store again"):
        read_region(tmp_path / "gone.npy", (0, 0, 0), (1, 1, 1))
    with pytest.raises(InputError, match=r"gone\.json is missing or damaged"):
        read_store_header(tmp_path / "gone.npy")
    Path(data[0]["pd"]).unlink()
    with pytest.raises(InputError, match=r"sub-001_PDmap\.nii\.gz does not exist"):
        prepare_store(data, tmp_path / "cache", progress=False)
