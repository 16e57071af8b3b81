from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.prepare.ixi_sources import Source, find_sources, find_tars, only_one
from scripts.prepare.prepare_ixi import _plan


def test_tars_and_files_hold_the_same(ixi_tars: Path, ixi_files: Path, tmp_path: Path) -> None:
    packed, unpacked = find_sources(ixi_tars), find_sources(ixi_files)
    assert list(packed) == list(unpacked) == sorted(packed)
    assert len(packed) == 4
    for name, subject in packed.items():
        assert list(subject.images) == ["T1", "T2", "PD"]
        assert subject.maps == {}
        for kind, (source,) in subject.images.items():
            (file,) = unpacked[name].images[kind]
            assert str(source) == f"{name}-{kind}.nii.gz in {ixi_tars / f'IXI-{kind}.tar'}"
            assert str(file) == str(ixi_files / kind / f"{name}-{kind}.nii.gz")
            for i, one in enumerate((source, file)):
                one.copy(tmp_path / str(i))
            assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes() == file.path.read_bytes()
            assert source.size == file.size == len(file.path.read_bytes())


def test_maps_of_spm_are_found_beside_and_elsewhere(ixi_cohort: Path, ixi_files: Path, tmp_path: Path) -> None:
    beside = find_sources(ixi_cohort)
    assert all(set(subject.maps) == {"T1", "T2", "PD"} for subject in beside.values())
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in ixi_cohort.glob("c?IXI*-T1.nii.gz"):  # as of images that were preprocessed to p_IXI...
        shutil.copy(path, labels / f"{path.name[:2]}p_{path.name[2:]}")
    elsewhere = find_sources(ixi_files, labels)
    assert all(list(subject.maps["T1"]) == [1, 2, 3] for subject in elsewhere.values())
    with pytest.raises(InputError, match=r"labels \S+nowhere is no folder"):
        find_sources(ixi_files, tmp_path / "nowhere")


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_damaged_tar_is_named(ixi_tars: Path, damage: str) -> None:
    tar = ixi_tars / "IXI-T2.tar"
    content = tar.read_bytes()
    tar.write_bytes({"cut": content[: len(content) // 2], "text": b"not found" * 200, "empty": b""}[damage])
    with pytest.raises(InputError, match=r"IXI-T2\.tar is .*(cut off|damaged).*: download it again") as caught:
        find_sources(ixi_tars)
    assert "\n" not in str(caught.value)


def test_nothing_of_ixi_is_told(tmp_path: Path) -> None:
    (tmp_path / "IXI.xls").write_text("")
    with pytest.raises(InputError, match=r"holds neither IXI-T1\.tar, .*: give another --source, or add --download"):
        find_sources(tmp_path)
    assert find_tars(tmp_path) == {}


def test_doubles_have_to_be_the_same(ixi_tars: Path, ixi_files: Path, tmp_path: Path) -> None:
    shutil.copytree(ixi_files, ixi_tars / "unpacked")
    found = find_sources(ixi_tars)
    name = next(iter(found))
    assert only_one(found[name].images["T1"]).offset is not None
    path = ixi_tars / "unpacked" / "T1" / f"{name}-T1.nii.gz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}-T1\.nii\.gz in \S+IXI-T1\.tar and {path} are two different files"):
        only_one(find_sources(ixi_tars)[name].images["T1"])


def test_a_file_that_shrinks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    path.write_bytes(bytes(100))
    with pytest.raises(InputError, match=r"a\.nii is cut off: copy or download a\.nii again"):
        list(Source(path, path.name, 101).chunks())


def test_the_exceptions_of_ixi_are_left_out_and_named(tmp_path: Path) -> None:
    """The names are IXI's own: subjects with a T1 only, one without, one with thick slices."""
    only_t1 = ["IXI116-Guys-0739", "IXI182-Guys-0792", "IXI309-IOP-0897", "IXI500-Guys-1017"]
    whole = ["IXI002-Guys-0828", "IXI014-HH-1236", "IXI012-HH-1211"]
    for name in (*only_t1, *whole):
        (tmp_path / f"{name}-T1.nii.gz").touch()
    for name in (*whole, "IXI580-IOP-1157"):
        for kind in ("T2", "PD"):
            (tmp_path / f"{name}-{kind}.nii.gz").touch()
    (tmp_path / "IXI002-Guys-0828-MRA.nii.gz").touch()
    plan, left_out = _plan(find_sources(tmp_path))
    assert sorted(plan) == sorted([*only_t1, *whole])
    assert list(plan["IXI014-HH-1236"].images) == ["T1"]
    assert list(plan["IXI002-Guys-0828"].images) == ["PD", "T1", "T2"]
    assert left_out == {
        "IXI014-HH-1236 PD, T2": "28 slices of 5 mm instead of some 130 of 1.25 mm",
        "IXI580-IOP-1157": "has PD, T2 but no T1, on which tissue maps are made",
        **{f"{name} T2, PD": "not in the dataset; its T1 is prepared" for name in only_t1},
    }


def test_a_download_of_one_kind_lacks_nothing(tmp_path: Path) -> None:
    for name in ("IXI002-Guys-0828", "IXI012-HH-1211"):
        (tmp_path / f"{name}-T1.nii.gz").touch()
    plan, left_out = _plan(find_sources(tmp_path))
    assert len(plan) == 2
    assert left_out == {}
