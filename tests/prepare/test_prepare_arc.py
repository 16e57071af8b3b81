from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from scripts.data.arc import find_arc
from scripts.errors import InputError
from scripts.io.write import move_volume
from scripts.prepare.prepare_arc import prepare_arc
from scripts.sources.downstream_data import downstream_data
from tests.commands.client import Commands
from tests.prepare.conftest import about_middle, quick_registration, rigid

ROOT = Path(__file__).resolve().parents[2]
MASKS = "derivatives/lesion_masks"


def one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


@pytest.fixture(scope="module", autouse=True)
def _() -> Iterator[None]:
    """Registrations are quick; test_registration has the whole search."""
    with quick_registration():
        yield


@pytest.fixture(scope="module")
def prepared(coarse_arc: Path, shared: Callable[[str, Callable[[Path], Any]], Any]) -> Path:
    """The cohort, with the T1w of its first subject turned and shifted in the scanner, prepared."""

    def make(folder: Path) -> Path:
        raw = folder / "ds004884"
        shutil.copytree(coarse_arc, raw)
        move(one(raw, "sub-M2001/ses-*/anat/*_T1w.nii.gz"), MOVED)
        summary = prepare_arc(str(raw), str(folder / "out"), jobs=1)
        assert summary.failed == {}
        assert (summary.subjects, summary.made) == (5, 5)
        return folder / "out"

    made: Path = shared("prepared_arc", make)
    return made


MOVED = rigid((6.0, -9.0, 8.0), (12.0, -9.0, 15.0))


def move(path: Path, matrix: np.ndarray) -> None:
    move_volume(path, path.with_name("moved.nii.gz"), matrix)
    path.with_name("moved.nii.gz").replace(path)


def corners(path: Path) -> np.ndarray:
    """World coordinates of the corners of a box of 160 mm around the middle of an image."""
    shape, affine = nib.load(path).shape, nib.load(path).affine
    middle = affine @ np.array([*(np.array(shape) - 1) / 2, 1.0])
    return np.array(
        [[*(middle[:3] + np.array((i, j, k)) * 80), 1.0] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
    )


def check_undone(anat: Path, moved: np.ndarray) -> None:
    """A T1w comes back to 1 mm and 1 degree: what was done, then what registration did, is the identity."""
    told = json.loads(one(anat, "*_space-T2w_T1w.json").read_text())
    both = np.array(told["RigidTransform"]) @ moved
    points = corners(one(anat, "*_T2w.nii.gz"))
    assert np.linalg.norm((points @ both.T - points)[:, :3], axis=1).max() < 2.0  # the corners of the head's box
    angle = np.rad2deg(np.arccos(np.clip((np.trace(both[:3, :3]) - 1) / 2, -1, 1)))
    assert angle < 1.0
    assert np.linalg.norm((np.append(points[:, :3].mean(0), 1) @ both.T)[:3] - points[:, :3].mean(0)) < 1.0


def test_a_known_transform_is_recovered(prepared: Path) -> None:
    check_undone(one(prepared, "sub-M2001/ses-*/anat"), MOVED)


def test_what_the_bundle_reads(prepared: Path, coarse_arc: Path, tmp_path: Path) -> None:
    for modality, expected in (("T2w", 5), ("T1w", 4), ("FLAIR", 2)):
        assert len(find_arc(prepared, modality)) == expected == len(find_arc(coarse_arc, modality))
    data = downstream_data("arc", prepared, tmp_path / "work", "T1w", split_over="modality")
    assert data["cohort"] == "embedded"  # which the raw data say of themselves
    datalist = json.loads((prepared / "datalist-T1w.json").read_text())
    assert data["sha256"] == datalist["sha256"]
    for part in ("training", "validation", "test"):
        listed = load_decathlon_datalist(prepared / "datalist-T1w.json", True, part)
        assert [(e["image"], e["label"]) for e in listed] == [(e["image"], e["label"]) for e in data[part]]
    assert datalist["licence"] == "CC0"


def test_t2w_and_mask_stay_as_they_are(prepared: Path, coarse_arc: Path) -> None:
    for pattern in ("sub-*/ses-*/anat/*_T2w.*", f"{MASKS}/sub-*/ses-*/anat/*"):
        paths = sorted(prepared.glob(pattern))
        assert len(paths) == 10, pattern
        for path in paths:
            assert path.read_bytes() == (coarse_arc / path.relative_to(prepared)).read_bytes()


def test_other_images_keep_their_voxels_and_tell_where_they_come_from(prepared: Path, coarse_arc: Path) -> None:
    for path in sorted(prepared.glob("sub-*/ses-*/anat/*_space-T2w_*.nii.gz")):
        source = coarse_arc / path.relative_to(prepared).as_posix().replace("_space-T2w", "")
        np.testing.assert_array_equal(nib.load(path).get_fdata(), nib.load(source).get_fdata())
        told = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text())
        assert told["Sources"] == [f"bids:raw:{source.relative_to(coarse_arc).as_posix()}"]
        assert told["SpatialReference"].endswith("_T2w.nii.gz")
        assert told["MagneticFieldStrength"] == 3
    assert not list(prepared.glob("sub-*/ses-*2/**/*.nii.gz"))  # sessions without a mask
    assert (prepared / "qc" / "index.html").is_file()


def test_a_second_run_has_nothing_to_do(prepared: Path, tree: Callable, capsys: pytest.CaptureFixture) -> None:
    raw, before = prepared.parent / "ds004884", tree(prepared)
    summary = prepare_arc(str(raw), str(prepared))
    assert (summary.subjects, summary.made) == (5, 0)
    assert tree(prepared) == before
    assert "5 subjects, 0 of them now" in capsys.readouterr().out


def test_processes_side_by_side_make_the_same(
    arc_raw: Path, tree: Callable, tmp_path: Path, commands: Commands
) -> None:
    """Registration, which takes all its begins here, among it: a head that nodded by 20 degrees comes back.

    Found 1.6 mm at the corners and 0.5 degrees, of voxels of 8 mm.
    """
    keep_two(arc_raw)
    moved = about_middle((-20, -10, 8), (-15, -20, 25))
    move(one(arc_raw, T1W), moved)
    for jobs in (1, 2):
        words = ("prepare", "arc", "--source", arc_raw, "--out", tmp_path / str(jobs) / "out", "--jobs", jobs)
        done = commands.run([sys.executable, "-m", "scripts", *map(str, words)], cwd=ROOT)
        assert done.returncode == 0, done.stderr
    here, there = tree(tmp_path / "1" / "out"), tree(tmp_path / "2" / "out")
    assert len([name for name in here if name.endswith("_space-T2w_T1w.nii.gz")]) == 1
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []
    check_undone(one(tmp_path / "1" / "out", "sub-M2002/ses-*/anat"), moved)


def spoil(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def other_grid(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 3.0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def other_values(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) * np.uint8(7), image.affine), path)


def doubled(path: Path) -> None:
    folder = path.parents[1].with_name("ses-9999") / "anat"
    folder.mkdir(parents=True)
    shutil.copy(path, folder / path.name.replace(path.parents[1].name, "ses-9999"))


def misplaced(path: Path) -> None:
    sidecar = path.with_name(path.name.replace(".nii.gz", ".json"))
    sidecar.write_text(json.dumps({"SpatialReference": "bids:raw:sub-M2009/ses-1/anat/sub-M2009_ses-1_T2w.nii.gz"}))


def blank(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.int16), image.affine), path)


def broken_sidecar(path: Path) -> None:
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text("{")


MASK, T1W, T2W = (
    f"{MASKS}/sub-M2002/ses-*/anat/*_mask.nii.gz",
    *(f"sub-M2002/ses-*/anat/*{m}.nii.gz" for m in ("T1w", "T2w")),
)
DAMAGE = {
    "mask on another grid": (other_grid, MASK, r"_mask\.nii\.gz has another affine than \S+T2w\.nii\.gz \(corners"),
    "mask of sevens": (other_values, MASK, r"_mask\.nii\.gz holds the label values 7: write 0 background, 1 lesion"),
    "two masks": (doubled, MASK, r"_mask\.nii\.gz is the second lesion mask of sub-M2002 beside .*: keep one"),
    "mask of another image": (misplaced, MASK, r"_mask\.json says that the mask belongs to \S+, not to \S+: correct"),
    "mask sidecar broken": (broken_sidecar, MASK, r"_mask\.json is no readable JSON \(.*\): download it again"),
    "truncated T1w": (spoil, T1W, r"_T1w\.nii\.gz is cut off or damaged \(.*\): copy it again"),
    "truncated T2w": (spoil, T2W, r"_T2w\.nii\.gz is cut off or damaged \(.*\): copy it again"),
    "no T2w": (Path.unlink, T2W, r"_T2w\.nii\.gz is missing, the T2w of \S+_mask\.nii\.gz: download it, or remove"),
    "blank T1w": (blank, T1W, r"_T1w\.nii\.gz holds no voxel above 0: download it again, or remove it"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line_about_one_subject(arc_raw: Path, tmp_path: Path, damage: str) -> None:
    """The damaged subject is left out with a line; the others are made; mended, it is made, too."""
    change, pattern, line = DAMAGE[damage]
    keep_two(arc_raw)
    if damage not in ("truncated T1w", "blank T1w"):  # registrations take time
        one(arc_raw, T1W).unlink()
    whole = Path(shutil.copytree(arc_raw, tmp_path / "whole"))
    change(one(arc_raw, pattern))
    summary = prepare_arc(str(arc_raw), str(tmp_path / "out"), jobs=1)
    assert list(summary.failed) == ["sub-M2002"]
    assert re.search(line, summary.failed["sub-M2002"])
    assert "\n" not in summary.failed["sub-M2002"]
    assert [entry["subject"] for entry in find_arc(tmp_path / "out")] == ["sub-M2001"]
    assert "sub-M2002" in (tmp_path / "out" / "qc" / "index.html").read_text()
    shutil.rmtree(arc_raw)
    whole.rename(arc_raw)
    mended = prepare_arc(str(arc_raw), str(tmp_path / "out"), jobs=1)
    assert (mended.failed, mended.made, mended.subjects) == ({}, 1, 2)


def keep_two(raw: Path) -> None:
    for number in (2003, 2004, 2005):
        shutil.rmtree(raw / f"sub-M{number}")
        shutil.rmtree(raw / MASKS / f"sub-M{number}")
    one(raw, "sub-M2001/ses-*/anat/*T1w.nii.gz").unlink()
    for path in raw.rglob("*FLAIR.nii.gz"):
        path.unlink()


def test_missing_sidecars_are_noted(arc_raw: Path, tmp_path: Path) -> None:
    keep_two(arc_raw)
    for path in arc_raw.rglob("*.json"):
        path.unlink()
    summary = prepare_arc(str(arc_raw), str(tmp_path / "out"), jobs=1)
    assert (summary.failed, summary.made) == ({}, 2)
    record = json.loads((tmp_path / "out" / ".prepared" / "sub-M2002.json").read_text())
    assert "the mask has no sidecar: its T2w is known by name" in record["notes"]
    assert "T1w has no sidecar" in record["notes"]


def test_several_images_of_a_kind(arc_raw: Path, tmp_path: Path) -> None:
    """The finest voxels first, then the highest run; what was taken is noted."""
    keep_two(arc_raw)
    path = one(arc_raw, T1W)
    again = path.with_name(path.name.replace("run-4", "run-11"))
    shutil.copy(path, again)
    thick = nib.load(path).slicer[::2]
    nib.save(thick, path.with_name(path.name.replace("run-4", "run-99")))
    summary = prepare_arc(str(arc_raw), str(tmp_path / "out"), jobs=1)
    assert summary.failed == {}
    assert one(tmp_path / "out", "sub-M2002/ses-*/anat/*_space-T2w_T1w.nii.gz").name.startswith(
        again.name[: -len("_T1w.nii.gz")]
    )
    record = json.loads((tmp_path / "out" / ".prepared" / "sub-M2002.json").read_text())
    assert f"3 T1w: took {again.name}" in record["notes"]


def test_links_of_a_datalad_clone(arc_raw: Path, tmp_path: Path) -> None:
    keep_two(arc_raw)
    t1w = one(arc_raw, T1W)
    t1w.unlink()
    t1w.symlink_to("../.git/annex/objects/none")
    t2w = one(arc_raw, "sub-M2001/ses-*/anat/*T2w.nii.gz")
    t2w.unlink()
    t2w.symlink_to("../.git/annex/objects/none")
    summary = prepare_arc(str(arc_raw), str(tmp_path / "out"), jobs=1)
    assert summary.left_out["sub-M2002 T1w"].endswith("is a link to content that was not fetched: type 'datalad get'")
    assert "is a link to content that was not fetched: type 'datalad get" in summary.failed["sub-M2001"]
    assert [entry["subject"] for entry in find_arc(tmp_path / "out")] == ["sub-M2002"]


def test_bad_folders_are_told_before_any_work(arc_raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match=r"source \S+nowhere is no folder"):
        prepare_arc(str(tmp_path / "nowhere"), str(out))
    with pytest.raises(InputError, match=r"lies inside the source .*: choose another --out"):
        prepare_arc(str(arc_raw), str(arc_raw / "out"))
    shutil.rmtree(arc_raw / "derivatives")
    with pytest.raises(InputError, match=r"lesion_masks holds no lesion mask .*: give the root of ds004884, or add"):
        prepare_arc(str(arc_raw), str(out))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"other holds other files: name an empty or new folder with --out"):
        prepare_arc(str(arc_raw), str(tmp_path / "other"))
    with pytest.raises(InputError, match=r"jobs is 0"):
        prepare_arc(str(arc_raw), str(out), jobs=0)


def test_the_first_step_of_a_training(prepared: Path, tmp_path: Path, commands: Commands) -> None:
    """What was prepared is what the bundle trains on: a tiny network takes one step on the registered T1w."""
    options = {
        "config_file": "bundles/arc_lesion/configs/train.json",
        "dataset_dir": prepared,
        "modality": "T1w",
        "encoder": "none",
        "features": "[4,4,8,8,8,4]",
        "patch_size": 32,
        "spacing": 8,
        "epoch_length": 1,
        "max_epochs": 1,
        "work_dir": tmp_path / "data",
        "ckpt_dir": tmp_path / "models",
        "output_dir": tmp_path / "eval",
        "tracking_uri": f"sqlite:///{tmp_path / 'runs.db'}",
    }
    command = [sys.executable, "-m", "monai.bundle", "run", *(f"--{name}={value}" for name, value in options.items())]
    done = commands.run(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    # 4 of the 5 subjects have a T1w
    assert "2 of 2 training subjects (label fraction 1), 1 validation, 1 test" in done.stderr + done.stdout
    assert (tmp_path / "models" / "model.pt").is_file()
    assert json.loads((tmp_path / "data" / "split-T1w.json").read_text()) == json.loads(
        (prepared / "split-T1w.json").read_text()
    )
