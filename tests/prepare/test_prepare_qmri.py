"""Prepared maps against those of the embedded cohort that every raw layout was written from."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.cohort.head import head_grid
from scripts.cohort.person import draw_person
from scripts.cohort.qmri_cohort import make_qmri_cohort
from scripts.cohort.scanner import make_head
from scripts.data.qmri import find_subjects, load_maps, substitutes
from scripts.errors import InputError
from scripts.prepare.prepare_qmri import prepare_qmri
from scripts.prepare.qmri_mask import core_of_head

N_SUBJECTS = 2
NAMES = ("pd", "r1", "r2star", "mtsat", "r2")
# half a step of what they are stored in
ROUNDING = {"pd": 0.0026, "r1": 6e-5, "r2star": 0.0026, "mtsat": 6e-5, "r2": 0.0011}

Maps = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Maps, np.ndarray]]:
    """Maps of two people in project units and their affine, healthy and after a stroke."""
    root = make_qmri_cohort(tmp_path_factory.mktemp("raw") / "cohort", N_SUBJECTS, 5, 4.0, jobs=1, progress=False)
    loaded = [load_maps(entry) for entry in find_subjects(root)]
    return [(dict(zip(NAMES, maps, strict=True)), affine) for maps, affine in loaded]


def inverse(factor: float, maps: np.ndarray) -> np.ndarray:
    return np.divide(factor, maps, out=np.zeros_like(maps), where=maps > 0)


def as_is(maps: np.ndarray) -> np.ndarray:
    return maps


# layout -> (folder of a person's maps, {map: (file, what the file holds)})
LAYOUTS: dict[str, tuple[str, dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]]]] = {
    "hmri": (
        "P_0{n}/Results",
        {
            "pd": ("s20{n}_PD.nii", as_is),
            "r1": ("s20{n}_R1.nii", as_is),
            "r2star": ("s20{n}_R2s_WLS1.nii", as_is),
            "mtsat": ("s20{n}_MTsat.nii", as_is),
        },
    ),
    "old": (
        "P_0{n}/Results",
        {
            "pd": ("s20{n}_A.nii", lambda x: x * 31.7),
            "r1": ("s20{n}_R1.nii", lambda x: x * 1000),
            "r2star": ("s20{n}_R2s_OLS.nii", lambda x: x / 1000),
            "mtsat": ("s20{n}_MT.nii", as_is),
        },
    ),
    "bids": (
        "sub-P0{n}/ses-1/anat",
        {
            "pd": ("sub-P0{n}_ses-1_M0map.nii.gz", lambda x: x * 0.02),
            "r1": ("sub-P0{n}_ses-1_T1map.nii.gz", lambda x: inverse(1000, x)),
            "r2star": ("sub-P0{n}_ses-1_T2starmap.nii.gz", lambda x: inverse(1, x)),
            "mtsat": ("sub-P0{n}_ses-1_MTsat.nii.gz", lambda x: x / 100),
            "r2": ("sub-P0{n}_ses-1_T2map.nii.gz", lambda x: inverse(1000, x)),
        },
    ),
    "published": (
        "g{n}/P0{n}",
        {
            "pd": ("masked_pd.nii", as_is),
            "r1": ("masked_r1.nii", as_is),
            "r2star": ("masked_r2s.nii", as_is),
            "mtsat": ("masked_mt.nii", as_is),
        },
    ),
}


def write_layout(
    root: Path,
    layout: str,
    people: list[tuple[Maps, np.ndarray]],
    *,
    leave_out: tuple[str, ...] = (),
    change: Mapping[str, Callable[[np.ndarray], np.ndarray]] | None = None,
    only: tuple[int, ...] | None = None,
) -> Path:
    """Write maps as a layout has them, the left of the head first; ``change`` damages the person named by ``only``."""
    place, files = LAYOUTS[layout]
    for n, (maps, affine) in enumerate(people, 1):
        folder = root / place.format(n=n)
        folder.mkdir(parents=True)
        for name, (file, stored) in files.items():
            if name in leave_out and (only is None or n in only):
                continue
            volume = stored(maps[name])
            if change and name in change and (only is None or n in only):
                volume = change[name](volume)
            turned = affine @ np.array([[-1, 0, 0, volume.shape[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
            nib.save(nib.Nifti1Image(np.ascontiguousarray(volume[::-1]), turned), folder / file.format(n=n))
    return root


def prepared(out: Path) -> list[Maps]:
    return [dict(zip(NAMES, load_maps(entry)[0], strict=False)) for entry in find_subjects(out)]


def run(source: Path, out: Path, **options: Any) -> Any:
    return prepare_qmri(str(source), str(out), jobs=options.pop("jobs", 1), **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def sidecar(out: Path, suffix: str) -> dict[str, Any]:
    return json.loads(next(out.glob(f"sub-P01/**/*_{suffix}.json")).read_text())


def one_line(text: str) -> str:
    assert "\n" not in text
    return text


# --- every layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_maps_come_out_as_they_were_simulated(originals, tmp_path, capsys, layout):
    source, out = write_layout(tmp_path / "source", layout, originals), tmp_path / "out"
    summary = run(source, out)
    assert (summary.subjects, summary.made, summary.failed) == (N_SUBJECTS, N_SUBJECTS, {})
    entries = find_subjects(out)
    assert [entry["subject"] for entry in entries] == ["sub-P01", "sub-P02"]
    assert [entry["session"] for entry in entries] == ["ses-1" if layout == "bids" else None] * 2
    assert [entry["group"] for entry in entries] == (["g1", "g2"] if layout == "published" else [None, None])
    for entry, (wanted, affine) in zip(entries, originals, strict=True):
        maps, placed = load_maps(entry)
        np.testing.assert_allclose(placed, affine, atol=1e-4)
        found = dict(zip(NAMES, maps, strict=False))
        assert set(found) == set(LAYOUTS[layout][1])
        if layout in ("old", "bids"):
            # the white matter of a person differs from 69 p.u. by what people differ, and by fluid in voxels of 4 mm
            scale = found["pd"].sum() / wanted["pd"].sum()
            assert 0.9 < scale < 1.05
            found["pd"] = found["pd"] / scale
        for name, values in found.items():
            np.testing.assert_allclose(values, wanted[name], atol=ROUNDING[name], rtol=1e-4, err_msg=name)
        mask = nib.load(entry["r1"].replace("R1map", "desc-brain_mask"))
        np.testing.assert_array_equal(np.asarray(mask.dataobj) > 0, wanted["r1"] > 0)
    told = capsys.readouterr().out
    assert told.count("the maps are masked") == N_SUBJECTS
    assert "Next: python -m monai.bundle run" in told


def test_what_was_inferred_is_told_and_recorded(originals, tmp_path, capsys):
    source, out = write_layout(tmp_path / "source", "bids", originals), tmp_path / "out"
    (source / "dataset_description.json").write_text('{"Name": "Mine", "License": "CC0", "DatasetDOI": "doi:1/2"}')
    (source / "participants.tsv").write_text("participant_id\tgroup\nsub-P01\tpatient\n")
    run(source, out)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sub-P01: ses-1: PD"))
    assert "PD a.u. -> p.u. (white matter 1." in line
    for text in ("R1 from T1 in ms", "R2* from T2* in s", "MTsat fraction -> p.u.", "R2 from T2 in ms"):
        assert text in line
    told = sidecar(out, "R1map")
    assert told["Units"] == "1/s"
    assert told["SourceUnits"] == "ms"
    assert told["Sources"] == ["sub-P01/ses-1/anat/sub-P01_ses-1_T1map.nii.gz"]
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["License"] == "CC0"
    assert description["SourceDatasets"][0]["DOI"] == "doi:1/2"
    with (out / "participants.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert [(row["participant_id"], row["group"]) for row in rows] == [("sub-P01", "patient"), ("sub-P02", "n/a")]
    assert rows[0]["source"] == "sub-P01/ses-1/anat"


def test_units_that_are_set_count(originals, tmp_path):
    source = write_layout(tmp_path / "source", "hmri", originals[:1])
    run(source, tmp_path / "out", units={"pd": "a.u."})
    assert "as set" in sidecar(tmp_path / "out", "PDmap")["Reading"]
    assert "white matter" in sidecar(tmp_path / "out", "PDmap")["Reading"]
    with pytest.raises(InputError, match="units gives r1 in 'furlong'"):
        run(source, tmp_path / "new", units={"r1": "furlong"})


# --- maps that lack


@pytest.mark.parametrize(
    "lacking", [("mtsat",), ("r2star",), ("pd",), ("mtsat", "r2star", "pd", "r2"), ("r2star", "r2")]
)
def test_a_map_that_lacks_is_made_by_its_model_and_training_needs_no_setting(originals, tmp_path, lacking):
    out = tmp_path / "out"
    run(write_layout(tmp_path / "source", "bids", originals[:1], leave_out=lacking), out)
    (entry,) = find_subjects(out)
    (found,), (wanted, _) = prepared(out), originals[0]
    brain = wanted["r1"] > 0
    models = {
        "mtsat": np.zeros_like(wanted["r1"]),
        "r2star": np.full_like(wanted["r1"], 20) if "r2" in lacking else wanted["r2"] / 0.7,
        "pd": np.minimum(100 / (0.9 + 0.45 * wanted["r1"]), 100),
    }
    made = [name for name in lacking if name in models]
    for name in made:
        np.testing.assert_allclose(found[name][brain], models[name][brain], atol=0.006, err_msg=name)
        assert not found[name][~brain].any()
    assert set(substitutes(entry)) == set(made)
    assert "Substitute" in sidecar(out, "MTsat" if "mtsat" in made else "PDmap" if "pd" in made else "R2starmap")


def test_white_matter_and_fluid_of_the_model_are_plausible(originals, tmp_path):
    run(write_layout(tmp_path / "source", "bids", originals[:1], leave_out=("pd",)), tmp_path / "out")
    (found,) = prepared(tmp_path / "out")
    wanted = originals[0][0]
    error = (found["pd"] - wanted["pd"])[wanted["r1"] > 0]
    assert abs(np.median(error)) < 6  # p.u.
    assert np.abs(error).max() < 20


# --- spoilt maps


def test_failed_fits_are_filled_and_counted(originals, tmp_path, capsys):
    def spoil(*values):
        def change(volume):
            volume = volume.copy()
            middle = tuple(n // 2 for n in volume.shape)
            # three voxels that do not touch
            for step, value in enumerate(values):
                volume[middle[0], middle[1] + 3 * step - 3, middle[2] + 4] = value
            return volume

        return change

    change = {"r1": spoil(np.nan, -1, 1e5), "pd": spoil(np.inf, 0, 1e4), "r2star": spoil(1e6, np.nan, 1e4)}
    out = tmp_path / "out"
    run(write_layout(tmp_path / "source", "hmri", originals[:1], change={**change, "mtsat": spoil(-1, -2, 40)}), out)
    assert sidecar(out, "R1map")["Cleaned"] == {"no_value": 2, "above_limit": 1, "filled": 3}
    assert sidecar(out, "PDmap")["Cleaned"] == {"no_value": 2, "above_limit": 1, "filled": 3}
    assert sidecar(out, "R2starmap")["Cleaned"] == {"no_value": 1, "above_limit": 2, "filled": 3}
    assert sidecar(out, "MTsat")["Cleaned"] == {"above_limit": 1, "negative": 2, "filled": 1}
    (found,), (wanted, _) = prepared(out), originals[0]
    np.testing.assert_array_equal(found["r1"] > 0, wanted["r1"] > 0)  # no holes
    differs = np.abs(found["r1"] - wanted["r1"]) > 1e-3
    assert differs.sum() <= 3
    assert np.abs(found["r1"] - wanted["r1"]).max() < 0.5


def test_many_failed_fits_are_told(originals, tmp_path, capsys):
    def spoil(volume):
        volume = volume.copy()
        volume[:, : volume.shape[1] // 2, : volume.shape[2] // 2] *= 1e4
        return volume

    run(write_layout(tmp_path / "source", "hmri", originals[:1], change={"r2star": spoil}), tmp_path / "out")
    assert "% of the brain above 300" in capsys.readouterr().out


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_grid(path: Path) -> None:
    image = nib.load(path)
    moved = image.affine.copy()
    moved[0, 3] += 5
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), moved), path)


def emptied(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.float32), image.affine), path)


def foreign(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 1e5, image.affine), path)


BAD = (
    ("T1map", damage, "T1map.nii.gz is cut off or damaged"),
    ("MTsat", other_grid, "MTsat.nii.gz has another affine than"),
    ("T2starmap", emptied, "T2starmap.nii.gz is 0 everywhere: restore the R2* map, or remove it"),
    ("MTsat", foreign, "MTsat.nii.gz looks like no known unit of MTsat"),
    ("T1map", Path.unlink, "has no R1 (or T1) map, which nothing can stand in for"),
)


def test_bad_subjects_are_told_in_one_line_each_and_the_others_go_on(originals, tmp_path):
    source, out = write_layout(tmp_path / "source", "bids", [*originals[:1] * 5, originals[1]]), tmp_path / "out"
    paths = [source / f"sub-P0{n}/ses-1/anat/sub-P0{n}_ses-1_{file}.nii.gz" for n, (file, _, _) in enumerate(BAD, 1)]
    whole = [path.read_bytes() for path in paths]
    for path, (_, spoil, _) in zip(paths, BAD, strict=True):
        spoil(path)
    summary = run(source, out)
    names = [f"sub-P0{n}" for n in range(1, 6)]
    assert (summary.subjects, summary.made, list(summary.failed)) == (1, 1, names)
    for name, (_, _, message) in zip(names, BAD, strict=True):
        assert message in one_line(summary.failed[name])
    assert [entry["subject"] for entry in find_subjects(out)] == ["sub-P06"]
    for path, content in zip(paths, whole, strict=True):
        path.write_bytes(content)
    before = (out / "sub-P06/ses-1/anat/sub-P06_ses-1_R1map.nii.gz").stat().st_mtime_ns
    mended = run(source, out)
    assert (mended.subjects, mended.made, mended.failed, len(find_subjects(out))) == (6, 5, {}, 6)
    assert (out / "sub-P06/ses-1/anat/sub-P06_ses-1_R1map.nii.gz").stat().st_mtime_ns == before


def test_a_subject_that_is_spoilt_later_leaves_the_prepared_data(originals, tmp_path):
    source, out = write_layout(tmp_path / "source", "bids", originals), tmp_path / "out"
    run(source, out)
    damage(source / "sub-P01/ses-1/anat/sub-P01_ses-1_T1map.nii.gz")
    assert list(run(source, out).failed) == ["sub-P01"]
    assert [entry["subject"] for entry in find_subjects(out)] == ["sub-P02"]


def test_two_folders_of_one_name_are_told(originals, tmp_path):
    source = write_layout(tmp_path / "source", "hmri", originals)
    shutil.copytree(source / "P_01", source / "P-01")
    summary = run(source, tmp_path / "out")
    assert "sub-P01 is found twice" in one_line(summary.failed["sub-P01"])
    assert summary.subjects == 1


# --- masks


def write_mask(source: Path, name: str, mask: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), source / "g1/P01" / name)


def test_a_given_mask_bounds_the_brain(originals, tmp_path):
    source = write_layout(tmp_path / "source", "published", originals[:1])
    maps, affine = originals[0]
    mask = maps["r1"] > 0
    mask[:, :, : mask.shape[2] // 2] = False
    write_mask(source, "fg_mask.nii", mask, affine)  # its axes run another way than the maps'
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(mask, maps["r1"] > 0)
    summary = run(source, tmp_path / "out")
    assert "another affine" in one_line(summary.failed["sub-P01"])
    turned = nib.load(source / "g1/P01/masked_r1.nii").affine
    write_mask(source, "fg_mask.nii", mask[::-1], turned)
    run(source, tmp_path / "out")
    (found,) = prepared(tmp_path / "out")
    np.testing.assert_array_equal(found["r1"] > 0, mask)
    assert sidecar(tmp_path / "out", "desc-brain_mask")["Sources"] == ["g1/P01/fg_mask.nii"]


def test_unmasked_maps_without_pd_ask_for_a_mask(originals, tmp_path):
    rng = np.random.default_rng(0)

    def noise(volume):
        return np.where(volume > 0, volume, rng.uniform(1, 4000, volume.shape)).astype(np.float32)

    source = write_layout(tmp_path / "source", "bids", originals[:1], leave_out=("pd",), change={"r1": noise})
    summary = run(source, tmp_path / "out")
    assert "without PD no brain can be found in whole heads: give a mask with --mask" in summary.failed["sub-P01"]
    affine = nib.load(next(source.rglob("*T1map*"))).affine
    mask = (originals[0][0]["r1"] > 0)[::-1]
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), source / "sub-P01/ses-1/anat/brain.nii.gz")
    summary = run(source, tmp_path / "given", mask="brain.nii*")
    assert summary.failed == {}
    (found,) = prepared(tmp_path / "given")
    np.testing.assert_allclose(found["r1"], originals[0][0]["r1"], atol=6e-5)


@pytest.fixture
def whole_head(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Maps of a whole head as of the hMRI toolbox, with noise in the air; the brain's PD in p.u., 0 elsewhere."""
    grid = head_grid(4.0)
    head = make_head(draw_person(1, 5), 5, grid, 3.0)
    maps = {
        file: head.maps[name] for file, name in (("A", "PD"), ("R1", "R1"), ("R2s_WLS1", "R2star"), ("MTsat", "MTsat"))
    }
    rng, air = np.random.default_rng(0), maps["A"] <= 1
    noise = {"A": (0, 1.5), "R1": (0.5, 0.7), "R2s_WLS1": (0, 200), "MTsat": (0, 3)}
    for file, values in maps.items():
        noisy = np.where(air, rng.normal(*noise[file], values.shape), values) * (31 if file == "A" else 1)
        path = tmp_path / "head/P1/Results" / f"s_{file}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(noisy.astype(np.float32), grid.affine), path)
    return tmp_path / "head", head.maps["PD"] * head.anatomy.brain, grid.affine


def test_the_brain_of_a_whole_head_is_found(whole_head, tmp_path):
    source, wanted, _ = whole_head
    assert run(source, tmp_path / "out").failed == {}
    (found,) = prepared(tmp_path / "out")
    both = (found["pd"] > 0) & (wanted > 0)
    assert 2 * both.sum() / ((found["pd"] > 0).sum() + (wanted > 0).sum()) > 0.94  # 0.97 measured
    # white matter of this person has 71 p.u.
    assert np.median(found["pd"][both] / wanted[both]) == pytest.approx(69 / 71, rel=0.02)
    told = json.loads((tmp_path / "out/sub-P1/anat/sub-P1_desc-brain_mask.json").read_text())
    assert told["Method"] == "found in an MPRAGE image simulated from the maps"


def test_units_of_a_whole_head_are_told_in_its_depth(whole_head):
    source, wanted, affine = whole_head
    pd = nib.load(source / "P1/Results/s_A.nii").get_fdata(dtype=np.float32)
    core = core_of_head(pd, affine)
    assert (core & (wanted > 0)).sum() > 0.6 * core.sum()
    assert (core & (wanted > 0)).sum() > 0.7 * (wanted > 0).sum()


# --- voxels


def test_resampled_maps_keep_their_place_and_values(originals, tmp_path):
    source, out = write_layout(tmp_path / "source", "hmri", originals[:1]), tmp_path / "out"
    run(source, out, spacing=3)
    maps, affine = load_maps(find_subjects(out)[0])
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), 3, atol=1e-5)
    wanted, wide = originals[0]
    brain = wanted["r1"] > 0
    for name, values in zip(NAMES, maps, strict=False):
        inside = maps[1] > 0
        assert values[inside].min() >= wanted[name][brain].min() - ROUNDING[name]
        assert np.median(values[inside]) == pytest.approx(np.median(wanted[name][brain]), rel=0.03)
    centres = [a[:3, :3] @ np.argwhere(m > 0).mean(0) + a[:3, 3] for m, a in ((maps[1], affine), (wanted["r1"], wide))]
    np.testing.assert_allclose(*centres, atol=0.3)
    assert sidecar(out, "R1map")["Resampled"] == "from 4 x 4 x 4 mm to 3 mm"
    with pytest.raises(InputError, match="was prepared with spacing 3"):
        run(source, out)
    with pytest.raises(InputError, match="spacing is 0: give the side of a voxel"):
        run(source, tmp_path / "new", spacing=0)


# --- runs


def test_a_second_run_changes_nothing_and_jobs_do_not_matter(originals, tmp_path, capsys, forked_processes):
    source = write_layout(tmp_path / "source", "old", originals)
    run(source, tmp_path / "one/out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one/out").rglob("*.nii.gz")}
    capsys.readouterr()
    summary = run(source, tmp_path / "one/out")
    assert (summary.subjects, summary.made) == (2, 0)
    assert "Preparing" not in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "one/out").rglob("*.nii.gz")}
    run(source, tmp_path / "two/out", jobs=2)
    assert contents(tmp_path / "one/out") == contents(tmp_path / "two/out")


def test_killed_half_way_and_continued_to_the_same_bytes(originals, tmp_path, commands):
    source = write_layout(tmp_path / "source", "hmri", originals)
    code = f"""
import os, signal
from scripts.prepare import prepare_qmri as qmri

write = qmri.write_scan

def write_and_die(part, scan, done):
    files = write(part, scan, done)
    if scan.subject == "sub-P02":
        os.kill(os.getpid(), signal.SIGKILL)
    return files

qmri.write_scan = write_and_die
qmri.prepare_qmri({str(source)!r}, {str(tmp_path / "out")!r}, jobs=1)
"""
    root = Path(__file__).parents[2]
    killed = commands.run([sys.executable, "-c", code], cwd=root)
    assert killed.returncode == -9, killed.stderr
    assert [path.name for path in sorted((tmp_path / "out").glob("sub-*"))] == ["sub-P01"]
    assert (tmp_path / "out/.part-sub-P02").is_dir()
    assert run(source, tmp_path / "out").made == 1
    run(source, tmp_path / "whole/out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole/out")
