from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.data.ixi import find_ixi, ixi_subjects, split_ixi
from scripts.data.splits import PARTS
from scripts.errors import InputError

Write = Callable[..., Path]

ORDER = ["IXI002-Guys-0828", "IXI012-HH-1211", "IXI035-IOP-0873"]


@pytest.fixture
def folder(tmp_path: Path, write_ixi: Write) -> Path:
    """Three sites, out of order, in two folders and both endings; T2 and PD of two subjects."""
    write_ixi("IXI035-IOP-0873-T1", folder="a", ending=".nii")
    write_ixi("IXI002-Guys-0828-T1", folder="b/c")
    write_ixi("IXI012-HH-1211-T1")
    for kind in ("T2", "PD"):
        write_ixi(f"IXI012-HH-1211-{kind}")
        write_ixi(f"IXI580-IOP-1157-{kind}", maps=())
    (tmp_path / "ixi" / "IXI.xls").write_text("a table")
    (tmp_path / "ixi" / "IXI035-IOP-0873-T1.json").write_text("{}")
    return tmp_path / "ixi"


def test_images_are_sorted_by_subject_each_with_its_site_and_maps(folder: Path) -> None:
    found = find_ixi(folder)
    assert [entry["subject"] for entry in found] == ORDER
    assert [entry["site"] for entry in found] == ["Guys", "HH", "IOP"]
    assert found[0] == {
        "subject": "IXI002-Guys-0828",
        "site": "Guys",
        "modality": "T1w",
        "image": str(folder / "b" / "c" / "IXI002-Guys-0828-T1.nii.gz"),
        "label": [str(folder / "b" / "c" / f"c{k}IXI002-Guys-0828-T1.nii.gz") for k in (1, 2, 3)],
    }
    assert found[2]["image"] == str(folder / "a" / "IXI035-IOP-0873-T1.nii")
    assert found[2]["label"][2] == str(folder / "a" / "c3IXI035-IOP-0873-T1.nii")


@pytest.mark.parametrize(("modality", "suffix"), [("T2w", "T2"), ("PDw", "PD")])
def test_other_modalities_and_images_without_maps(folder: Path, modality: str, suffix: str) -> None:
    found = find_ixi(folder, modality, labels=False)
    assert [Path(entry["image"]).name for entry in found] == [
        f"IXI012-HH-1211-{suffix}.nii.gz",
        f"IXI580-IOP-1157-{suffix}.nii.gz",
    ]
    assert all("label" not in entry and entry["modality"] == modality for entry in found)
    with pytest.raises(InputError, match=rf"c1IXI580-IOP-1157-{suffix}\.nii\.gz \(grey matter\) is missing"):
        find_ixi(folder, modality)


def test_subjects_are_those_of_any_modality(folder: Path) -> None:
    assert ixi_subjects(folder) == [*ORDER, "IXI580-IOP-1157"]


def test_the_degenerate_files_of_one_subject_are_left_out(tmp_path: Path, write_ixi: Write) -> None:
    for kind in ("T1", "T2", "PD"):
        write_ixi(f"IXI014-HH-1236-{kind}")
        write_ixi(f"IXI015-HH-1258-{kind}")
    counts = {kind: [e["subject"][:6] for e in find_ixi(tmp_path / "ixi", kind)] for kind in ("T1w", "T2w", "PDw")}
    assert counts == {"T1w": ["IXI014", "IXI015"], "T2w": ["IXI015"], "PDw": ["IXI015"]}


@pytest.mark.parametrize(
    ("number", "tissue"), [(1, "grey matter"), (2, "white matter"), (3, "CSF")], ids=["c1", "c2", "c3"]
)
def test_a_missing_map_is_named(tmp_path: Path, write_ixi: Write, number: int, tissue: str) -> None:
    write_ixi(maps=tuple({1, 2, 3} - {number}))
    with pytest.raises(InputError, match=rf"ixi/c{number}IXI002-Guys-0828-T1\.nii\.gz \({tissue}\) is missing.*SPM"):
        find_ixi(tmp_path / "ixi")
    assert len(find_ixi(tmp_path / "ixi", labels=False)) == 1


def test_maps_may_be_compressed_otherwise_than_their_image(tmp_path: Path, write_ixi: Write) -> None:
    write_ixi(ending=".nii")
    write_ixi(ending=".nii.gz", maps=())
    (tmp_path / "ixi" / "IXI002-Guys-0828-T1.nii").unlink()
    (entry,) = find_ixi(tmp_path / "ixi")
    assert [Path(path).name for path in entry["label"]] == [f"c{k}IXI002-Guys-0828-T1.nii" for k in (1, 2, 3)]


def test_maps_on_another_grid_are_named(tmp_path: Path, write_ixi: Write, write_volume: Write) -> None:
    write_ixi(maps_affine=np.diag([0.9, 1.1, 1.6, 1.0]))
    with pytest.raises(InputError, match=r"c1IXI002-Guys-0828-T1\.nii\.gz has another affine than IXI002-Guys"):
        find_ixi(tmp_path / "ixi")
    write_ixi()
    write_volume("ixi/c2IXI002-Guys-0828-T1.nii.gz", np.zeros((4, 5, 4), np.float32))
    with pytest.raises(InputError, match=r"c2IXI002-Guys-0828-T1\.nii\.gz has shape \(4, 5, 4\), but IXI002-Guys"):
        find_ixi(tmp_path / "ixi")


def test_one_image_twice_is_named(tmp_path: Path, write_ixi: Write) -> None:
    first, second = write_ixi(folder="a"), write_ixi(folder="b", ending=".nii")
    with pytest.raises(InputError) as caught:
        find_ixi(tmp_path / "ixi")
    assert str(caught.value) == f"{second} and {first} are the same image: remove one of them"


def test_what_is_no_ixi_is_told(tmp_path: Path, folder: Path, write_volume: Write) -> None:
    with pytest.raises(InputError, match=r"modality='SWI' is none of IXI's: choose T1w, T2w, PDw, FLAIR$"):
        find_ixi(folder, "SWI")
    with pytest.raises(InputError, match=r"gone does not exist: give the folder"):
        find_ixi(tmp_path / "gone")
    with pytest.raises(InputError, match=r"gone does not exist"):
        ixi_subjects(tmp_path / "gone")
    write_volume("other/sub-01_T1w.nii.gz", np.ones((2, 2, 2), np.float32))
    write_volume("other/IXI002-Barts-0828-T1.nii.gz", np.ones((2, 2, 2), np.float32))
    with pytest.raises(InputError, match=r"other holds no file named as IXI's"):
        find_ixi(tmp_path / "other")
    write_volume("other/IXI002-Guys-0828-T1.nii.gz", np.ones((2, 2, 2), np.float32))
    with pytest.raises(InputError, match=r"other holds no T2w image \(IXI\*-T2\.nii\.gz\)"):
        find_ixi(tmp_path / "other", "T2w")


def subjects(guys: int, hh: int, iop: int) -> list[str]:
    sites = ["Guys"] * guys + ["HH"] * hh + ["IOP"] * iop
    order = np.random.default_rng(0).permutation(len(sites))
    return [f"IXI{place:03d}-{sites[i]}-{1000 + place}" for place, i in enumerate(order)]


def test_the_paper_counts_of_the_split() -> None:
    names = subjects(322, 185, 74)
    split = split_ixi(names)
    guys = [name for name in names if "-Guys-" in name]
    assert (split["training"], split["validation"]) == (guys[:225], guys[225:257])
    outside = [name for name in names if "-Guys-" not in name]
    assert len(outside) == 259
    assert split["test"] == sorted([*guys[257:], *outside])
    assert len(split["test"]) == 65 + 259


@pytest.mark.parametrize("site", ["Guys", "HH", "IOP"])
def test_nobody_is_in_two_parts_and_only_the_training_site_is_trained_on(site: str) -> None:
    names = subjects(13, 7, 5)
    split = split_ixi([*names, *names[::-1]], (0.5, 0.2), site)
    n = {"Guys": 13, "HH": 7, "IOP": 5}[site]
    assert [len(split[part]) for part in PARTS[:2]] == [int(0.5 * n), int(0.2 * n)]
    assert sorted(name for part in PARTS for name in split[part]) == names
    assert all(name.split("-")[1] == site for part in PARTS[:2] for name in split[part])


def test_the_split_of_all_modalities_serves_each(folder: Path) -> None:
    """T1 lacks one subject and T2 two, yet a subject has one part in both."""
    split = split_ixi(ixi_subjects(folder))
    for modality in ("T1w", "T2w"):
        names = {entry["subject"] for entry in find_ixi(folder, modality, labels=False)}
        assert names <= {name for part in PARTS for name in split[part]}
    assert split["training"] == ["IXI002-Guys-0828"]
    assert split["test"] == [*ORDER[1:], "IXI580-IOP-1157"]


def test_no_subject_to_train_on() -> None:
    with pytest.raises(InputError, match=r"no subject of site Guys to train on.*--training_site"):
        split_ixi(subjects(0, 3, 2))
    with pytest.raises(InputError, match=r"no subject of site Barts"):
        split_ixi(subjects(2, 3, 2), training_site="Barts")
