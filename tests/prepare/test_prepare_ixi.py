from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from scripts.__main__ import main
from scripts.data.ixi import find_ixi, ixi_subjects, split_ixi
from scripts.errors import InputError
from scripts.io.read import read_volume
from scripts.prepare.prepare_ixi import prepare_ixi
from scripts.sources.downstream_data import downstream_data
from tests.commands.client import Commands
from tests.prepare.conftest import quick_registration, unpack

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("T1", "T2", "PD")
PARTS = ("training", "validation", "test")
Shared = Callable[[str, Callable[[Path], Any]], Any]


@pytest.fixture(scope="module", autouse=True)
def _() -> Iterator[None]:
    """Registrations are quick; test_registration has the whole search."""
    with quick_registration():
        yield


@pytest.fixture(scope="module")
def labelled(ixi_cohort: Path, shared: Shared) -> Path:
    """One of the cohort's subjects, unpacked, with maps of the T1, prepared."""

    def make(folder: Path) -> Path:
        raw = unpack(ixi_cohort, folder / "raw", maps=("T1",))
        for path in raw.glob("*/*"):
            if "-HH-" not in path.name:
                path.unlink()
        assert prepare_ixi(str(raw), str(folder / "out"), jobs=1).failed == {}
        return folder / "out"

    made: Path = shared("labelled_ixi", make)
    return made


@pytest.fixture(scope="module")
def all_labelled(ixi_cohort: Path, shared: Shared) -> Path:
    """All four with maps of all their images, of which nothing has to be registered, prepared."""

    def make(folder: Path) -> Path:
        raw = unpack(ixi_cohort, folder / "raw", maps=KINDS)
        assert prepare_ixi(str(raw), str(folder / "out"), jobs=1).failed == {}
        return folder / "out"

    made: Path = shared("all_labelled_ixi", make)
    return made


def shares(folder: Path, image: str) -> np.ndarray:
    return np.stack([read_volume(folder / f"c{number}{image}.nii.gz")[0] for number in (1, 2, 3)])


def dice(first: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((first & other).sum()) / float(first.sum() + other.sum())


def test_images_stay_as_they_are(prepared_ixi: Path, ixi_cohort: Path) -> None:
    paths = sorted(prepared_ixi.glob("IXI*.nii.gz"))
    assert len(paths) == 9
    for path in paths:
        assert path.read_bytes() == (ixi_cohort / path.name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_maps_made_here_are_like_those_the_images_were_made_of(prepared_ixi: Path, ixi_cohort: Path, kind: str) -> None:
    for subject in ixi_subjects(prepared_ixi):
        made, truth = shares(prepared_ixi, f"{subject}-{kind}"), shares(ixi_cohort, f"{subject}-{kind}")
        assert made.shape == truth.shape
        assert made.sum(axis=0).max() <= 1 + 1e-6
        brains = [maps.sum(axis=0) > 0.5 for maps in (made, truth)]
        assert dice(*brains) > 0.85, subject
        for number, least in ((0, 0.6), (1, 0.65)):  # grey, white; voxels of 4 mm, fluid is mostly partial volume
            inside = [
                (maps.argmax(axis=0) == number) & brain for maps, brain in zip((made, truth), brains, strict=True)
            ]
            assert dice(*inside) > least, (subject, number)


def test_what_the_bundles_read(prepared_ixi: Path, tmp_path: Path) -> None:
    for modality in ("T1w", "T2w", "PDw"):
        data = downstream_data("ixi", prepared_ixi, tmp_path / modality, modality)
        datalist = json.loads((prepared_ixi / f"datalist-{modality}.json").read_text())
        assert data["sha256"] == datalist["sha256"] == split_ixi(ixi_subjects(prepared_ixi))["sha256"]
        for part in PARTS:
            listed = load_decathlon_datalist(prepared_ixi / f"datalist-{modality}.json", True, part)
            assert [(e["image"], e["label"]) for e in listed] == [(e["image"], e["label"]) for e in data[part]]
        assert datalist["licence"] == "CC BY-SA 3.0"
        assert sum(datalist[f"num{part.capitalize()}"] for part in PARTS) == 3
    assert data["cohort"] == "real"


def test_a_second_run_has_nothing_to_do(prepared_ixi: Path, tree: Callable, capsys: pytest.CaptureFixture) -> None:
    before = tree(prepared_ixi)
    summary = prepare_ixi(str(prepared_ixi.parent / "download"), str(prepared_ixi), verify_sums=False)
    assert (summary.subjects, summary.made) == (3, 0)
    assert tree(prepared_ixi) == before
    assert "3 subjects, 0 of them now" in capsys.readouterr().out


def test_two_processes_make_the_same(
    all_labelled: Path, tmp_path: Path, tree: Callable, forked_processes: None
) -> None:
    prepare_ixi(str(all_labelled.parent / "raw"), str(tmp_path / "out"), jobs=2)
    here, there = tree(tmp_path / "out"), tree(all_labelled)
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_maps_of_spm_are_taken(labelled: Path, ixi_cohort: Path) -> None:
    """Those of T2 and PD, which have none, are carried from them."""
    for path in ixi_cohort.glob("c?IXI*.nii.gz"):
        if "-HH-" not in path.name:
            continue
        stored, truth = nib.load(labelled / path.name).get_fdata(), nib.load(path).get_fdata()
        if "-T1" in path.name:
            np.testing.assert_allclose(stored, truth, atol=1e-6)
        elif path.name[1] == "2":
            assert dice(stored > 0.5, truth > 0.5) > 0.8, path.name
    record = json.loads(next((labelled / ".prepared").glob("IXI*HH*")).read_text())
    assert record["about"][0] == "T1: maps of SPM"
    assert re.fullmatch(r"T2: maps carried from the T1 \(.* degrees, .* mm\)", record["about"][1])


def test_what_comes_later_is_added(ixi_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ixi_labelled = unpack(ixi_cohort, tmp_path / "raw", maps=KINDS)
    later = sorted(ixi_labelled.glob("T2/*"))
    kept = tmp_path / "later"
    kept.mkdir()
    for path in later:
        path.rename(kept / path.name)
    *_, gone = ixi_subjects(ixi_labelled)
    for path in sorted(ixi_labelled.glob(f"*/*{gone}*")):
        path.rename(kept / path.name)
    out = tmp_path / "out"
    first = prepare_ixi(str(ixi_labelled), str(out), jobs=1)
    assert (first.subjects, first.failed) == (3, {})
    assert len(find_ixi(out, "PDw")) == 3
    (ixi_labelled / "T2").mkdir(exist_ok=True)
    for path in kept.iterdir():
        path.rename(ixi_labelled / "T2" / path.name)
    capsys.readouterr()
    second = prepare_ixi(str(ixi_labelled), str(out), jobs=1)
    assert (second.subjects, second.made) == (4, 4)  # all have a T2 now
    assert len(find_ixi(out, "T2w")) == 4
    assert "is made anew, as the subjects are others than last time" in capsys.readouterr().out


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-6] ^= 8  # the checksum of the gzip member
    path.write_bytes(content)


def swap(path: Path) -> None:
    other = path.parents[1] / "PD" / path.name.replace("-T2", "-PD")
    path.rename(path.with_name("x"))
    other.rename(path)
    path.with_name("x").rename(other)


def double(path: Path) -> None:
    (path.parents[1] / "again").mkdir()
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path.parents[1] / "again" / path.name)


def wrong_maps(path: Path) -> None:
    image = nib.load(path)
    affine = image.affine.copy()
    affine[2, 3] += 5
    for number in (1, 2, 3):
        nib.save(
            nib.Nifti1Image(np.full(image.shape, 0.25, np.float32), affine), path.with_name(f"c{number}{path.name}")
        )


def no_probabilities(path: Path) -> None:
    image = nib.load(path)
    for number in (1, 2, 3):
        volume = np.full(image.shape, 255.0, np.float32)
        nib.save(nib.Nifti1Image(volume, image.affine), path.with_name(f"c{number}{path.name}"))


def no_head(path: Path) -> None:
    for number in (1, 2, 3):
        path.with_name(f"c{number}{path.name}").unlink()
    image = nib.load(path)
    noise = np.random.default_rng(0).integers(1, 100, image.shape).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, image.affine), path)


def empty_maps(path: Path) -> None:
    for number in (1, 2, 3):
        maps = path.with_name(f"c{number}{path.name}")
        nib.save(nib.Nifti1Image(np.zeros(nib.load(maps).shape, np.float32), nib.load(maps).affine), maps)


DAMAGE = {
    "no head": (no_head, "T1", r"raw/T1/IXI\S+-T1\.nii\.gz: "),
    "empty maps": (empty_maps, "T1", r"raw/T1/c1IXI\S+ marks no grey matter: segment the image anew"),
    "truncated T1": (truncate, "T1", r"raw/T1/IXI\S+-T1\.nii\.gz is cut off or damaged \(.*\): copy it again"),
    "damaged T2": (flip_bit, "T2", r"raw/T2/IXI\S+-T2\.nii\.gz is cut off or damaged \(.*\): copy it again"),
    "no image": (lambda path: path.write_bytes(b"<html>404</html>"), "PD", r"raw/PD/\S+ cannot be read as NIfTI"),
    "swapped": (swap, "T2", r"T2/\S+-T2\.nii\.gz and \S+-PD\.nii\.gz look swapped \(CSF is .*\): exchange their names"),
    "doubled": (double, "T1", r"T1/\S+ and \S+again/\S+ are two different files of one image: remove the wrong one"),
    "maps on another grid": (wrong_maps, "T1", r"c1IXI\S+ has another affine than IXI\S+-T1\.nii\.gz \(corners"),
    "maps of 255": (no_probabilities, "T1", r"c1IXI\S+ holds values from 255 to 255: give SPM's probabilities"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_line_about_one_subject(ixi_labelled: Path, tmp_path: Path, damage: str) -> None:
    change, kind, line = DAMAGE[damage]
    ixi_files = ixi_labelled
    for path in ixi_files.rglob("*.nii.gz"):  # two subjects suffice
        if "Guys" not in path.name:
            path.unlink()
    for path in ixi_files.glob("*/*IXI005*"):  # a T1 suffices
        if "-T1" not in path.name:
            path.unlink()
    bad, good = ixi_subjects(ixi_files)
    change(ixi_files / kind / f"{bad}-{kind}.nii.gz")
    summary = prepare_ixi(str(ixi_files), str(tmp_path / "out"), jobs=1)
    assert list(summary.failed) == [bad]
    assert re.search(line, summary.failed[bad]), summary.failed[bad]
    assert "\n" not in summary.failed[bad]
    assert ".part-" not in summary.failed[bad]
    assert ixi_subjects(tmp_path / "out") == [good]
    assert bad in (tmp_path / "out" / "qc" / "index.html").read_text()
    assert not list((tmp_path / "out").glob(f"*{bad}*"))


def test_thick_slices_are_left_out(ixi_labelled: Path, tmp_path: Path) -> None:
    for path in ixi_labelled.rglob("*.nii.gz"):
        if "HH" not in path.name:
            path.unlink()
        elif "-T2" in path.name:
            nib.save(nib.load(path).slicer[:, :, ::2], path)
    (name,) = ixi_subjects(ixi_labelled)
    summary = prepare_ixi(str(ixi_labelled), str(tmp_path / "out"), jobs=1)
    assert summary.failed == {}
    assert sorted(path.name for path in (tmp_path / "out").glob("IXI*")) == [f"{name}-PD.nii.gz", f"{name}-T1.nii.gz"]
    record = json.loads((tmp_path / "out" / ".prepared" / f"{name}.json").read_text())
    assert re.fullmatch(r"T2 left out: \d+ slices of 8 mm", record["notes"][0]), record["notes"]


def test_wrong_checksum_is_told_before_any_work(ixi_tars: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"IXI-T1\.tar .*--verify false") as caught:
        prepare_ixi(str(ixi_tars), str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("IXI*"))


def hooked(function: str, event: str) -> list[str]:
    """The command with something that happens when it calls a function for its second subject."""
    code = f"""
import os, signal, sys
from pathlib import Path
from scripts.__main__ import main
from scripts.prepare import ixi_subject
inner, calls = ixi_subject.{function}, []
def outer(root, *given):
    calls.append(given)
    if len(calls) == 2:
        {event}
    return inner(root, *given)
ixi_subject.{function} = outer
main()
"""
    return [sys.executable, "-c", code]


def test_killed_half_way_and_continued(all_labelled: Path, tmp_path: Path, tree: Callable, commands: Commands) -> None:
    """kill -9 in the second subject; the same command ends with the same bytes as one that was left alone."""
    out = tmp_path / "out"
    words = ["prepare", "ixi", "--source", str(all_labelled.parent / "raw"), "--out", str(out), "--jobs", "1"]
    killed = hooked("finish_subject", "os.kill(os.getpid(), signal.SIGKILL)")
    assert commands.run([*killed, *words], cwd=ROOT).returncode == -signal.SIGKILL
    (finished,) = out.glob(".prepared/IXI*.json")
    assert list(out.glob(".part-*"))
    time = finished.stat().st_mtime_ns
    done = commands.run([sys.executable, "-m", "scripts", *words], cwd=ROOT)
    assert "(4 subjects, 3 of them now" in done.stdout, done.stderr
    assert finished.stat().st_mtime_ns == time
    here, there = tree(out), tree(all_labelled)
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_fills_up(all_labelled: Path, small_disk: Path, tree: Callable, commands: Commands) -> None:
    """Others write to the same disk: one line, what is finished stays, and once there is room it goes on."""
    out, filler = small_disk / "out", small_disk / "filler"
    words = ["prepare", "ixi", "--source", str(all_labelled.parent / "raw"), "--out", str(out), "--jobs", "1"]
    fill = f"os.system('cat /dev/zero > {filler} 2> /dev/null')"
    full = commands.run([*hooked("part_folder", fill), *words], cwd=ROOT)
    assert full.returncode == 1
    last = full.stderr.strip().splitlines()[-1]
    assert re.search(r"^error: no space left for .* while working on IXI\S+: free some and type the same command", last)
    assert len(list(out.glob(".prepared/IXI*.json"))) == 1
    filler.unlink()
    done = commands.run([sys.executable, "-m", "scripts", *words], cwd=ROOT)
    assert "1 are finished" in done.stdout, done.stderr
    here, there = tree(out), tree(all_labelled)
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] != there[name]] == []


def test_too_little_space_is_told_before_any_work(all_labelled: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(7_000_000))
    with pytest.raises(InputError, match=r"out needs about .* for the images and their tissue maps, .* are free: free"):
        prepare_ixi(str(all_labelled.parent / "raw"), str(small_disk / "out"))


def test_the_exit_status_tells_that_some_failed(
    ixi_labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for path in ixi_labelled.rglob("*.nii.gz"):
        if "Guys" not in path.name or "-T1" not in path.name:
            path.unlink()
    bad = ixi_labelled / "T1" / "IXI005-Guys-0710-T1.nii.gz"
    truncate(bad)
    command = [
        "scripts",
        "prepare",
        "ixi",
        "--source",
        str(ixi_labelled),
        "--out",
        str(tmp_path / "out"),
        "--jobs",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    told = capsys.readouterr().out
    assert f"Failed: IXI005-Guys-0710: {bad} is cut off or damaged" in told
    assert "Mend the files named above and type the same command again: only these subjects are made." in told
    assert "Next: python -m monai.bundle run --config_file bundles/ixi_seg/configs/train.json" in told
    bad.unlink()
    for path in ixi_labelled.glob("T1/*IXI005*"):
        path.unlink()
    main()  # all well: returns
