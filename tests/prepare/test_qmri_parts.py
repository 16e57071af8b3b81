"""Units, cleaning, masks and voxels of prepared maps, each against values known beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from scripts.data.units import LIMITS, check_settings
from scripts.errors import InputError
from scripts.prepare import qmri_mask
from scripts.prepare.qmri_clean import clean_map
from scripts.prepare.qmri_grid import resample_maps, spaced_grid
from scripts.prepare.qmri_sources import MapSource
from scripts.prepare.qmri_units import apply_reading, infer_units, read_hint

# white matter, grey matter, fluid
TISSUES = {"pd": (70.0, 80.0, 100.0), "r1": (0.95, 0.62, 0.24), "r2star": (21.0, 17.0, 2.0), "mtsat": (1.5, 0.85, 0.03)}
SHAPE = (24, 26, 22)


def ball(shape=SHAPE) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """White in grey in fluid, with 3 % of noise; 0 outside."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    labels = np.digitize(np.sqrt((grid**2).sum(0)), [0.6, 0.8, 0.9])
    rng = np.random.default_rng(0)
    maps = {
        name: (np.array([*values, 0])[labels] * (1 + 0.03 * rng.standard_normal(shape))).astype(np.float32)
        for name, values in TISSUES.items()
    }
    return maps, labels < 3


def sources(folder: Path, **renamed: str) -> dict[str, MapSource]:
    kinds = {"pd": "PDmap", "r1": "R1map", "r2star": "R2starmap", "mtsat": "MTsat", **renamed}
    return {name: MapSource(folder / f"sub-1_{kind}.nii.gz", kind) for name, kind in kinds.items()}


def write_sidecar(source: MapSource, content: object) -> None:
    source.path.with_name(source.path.name.replace(".nii.gz", ".json")).write_text(json.dumps(content))


def infer(folder, volumes, brain, settings=None, **renamed):
    return infer_units(sources(folder, **renamed), volumes, brain, check_settings(settings or "auto"))


# --- units


@pytest.mark.parametrize(
    ("name", "kind", "change", "unit", "text"),
    [
        ("r1", "R1map", lambda x: x, "1/s", "R1 1/s"),
        ("r1", "R1map", lambda x: x * 1000, "1e-3/s", "R1 1e-3/s -> 1/s"),
        ("r1", "T1map", lambda x: 1000 / x, "ms", "R1 from T1 in ms"),
        ("r1", "T1map", lambda x: 1 / x, "s", "R1 from T1 in s"),
        ("r2star", "T2starmap", lambda x: 1 / x, "s", "R2* from T2* in s"),
        ("r2star", "T2starmap", lambda x: 1000 / x, "ms", "R2* from T2* in ms"),
        ("mtsat", "MTsat", lambda x: x / 100, "fraction", "MTsat fraction -> p.u."),
        ("pd", "PDmap", lambda x: x / 100, "fraction", "PD fraction -> p.u."),
        ("pd", "PDmap", lambda x: x * 31, "a.u.", "PD a.u. -> p.u. (white matter 2170 = 69)"),
        ("pd", "A", lambda x: x, "a.u.", "PD a.u. -> p.u. (white matter 70 = 69)"),
        ("pd", "M0map", lambda x: x / 100, "a.u.", "PD a.u. -> p.u. (white matter 0.7 = 69)"),
    ],
)
def test_a_map_is_told_and_converted(tmp_path, name, kind, change, unit, text):
    maps, brain = ball()
    stored = {**maps, name: np.where(brain, change(np.where(brain, maps[name], 1)), 0).astype(np.float32)}
    reading = infer(tmp_path, stored, brain, **{name: kind})[name]
    assert reading.unit == unit
    # the white matter of a noisy ball is 70 to half a per cent
    assert reading.text[:20] == text[:20]
    done = apply_reading(name, stored[name], reading)
    wanted = maps[name] * (69 / 70 if unit == "a.u." else 1)
    np.testing.assert_allclose(done[brain], wanted[brain], rtol=0.006 if unit == "a.u." else 1e-5)


def test_values_win_over_the_sidecar_and_the_name_with_a_note(tmp_path):
    maps, brain = ball()
    told = sources(tmp_path)
    write_sidecar(told["r1"], {"Units": "1/s"})
    write_sidecar(told["mtsat"], {"Units": "%"})
    maps["r1"] *= 1000
    readings = infer(tmp_path, maps, brain)
    assert readings["r1"].unit == "1e-3/s"
    assert readings["r1"].notes == ("R1 is in 1/s by its sidecar, but its values are those of 1e-3/s: taken as 1e-3/s",)
    assert readings["mtsat"].notes == ()
    maps["r1"] = np.where(brain, 1e6 / np.maximum(maps["r1"], 1), 0).astype(np.float32)
    reading = infer(tmp_path, maps, brain)["r1"]
    assert reading.unit == "ms"
    assert "R1map holds values of ms: taken as such" in reading.notes


def test_the_sidecar_decides_where_values_leave_a_choice(tmp_path):
    maps, brain = ball()
    # flat maps have no order of tissues: 20 may be an R2* in 1/s, or a T2* in ms
    flat = {"r1": maps["r1"], "r2star": np.where(brain, 40.0, 0).astype(np.float32)}
    told = {
        "r1": MapSource(tmp_path / "a_R1map.nii", "R1map"),
        "r2star": MapSource(tmp_path / "a_R2.nii.gz", "R2starmap"),
    }
    auto = check_settings("auto")
    assert infer_units(told, flat, brain, auto)["r2star"].unit == "1/s"
    write_sidecar(told["r2star"], {"Units": "ms"})
    assert infer_units(told, flat, brain, auto)["r2star"].unit == "ms"
    assert infer_units(told, flat, brain, check_settings({"r2star": "1/s"}))["r2star"].text == "R2* 1/s as set"


@pytest.mark.parametrize(
    ("sidecar", "unit"),
    [
        ({"Units": "s^{-1}"}, "1/s"),
        ({"Units": "Hz"}, "1/s"),
        ({"Units": "mHz"}, "1e-3/s"),
        ({"Units": "Percent units"}, "p.u."),
        ({"Units": "arbitrary"}, "a.u."),
        ({"history": {"output": {"units": "p.u."}}}, "p.u."),
        ({"history": [{"procstep": {}}, {"output": {"units": "s-1"}}]}, "1/s"),
        ({"Units": ["s"]}, None),
        ({"Units": "furlong"}, None),
        (["s"], None),
    ],
)
def test_hints_of_sidecars(tmp_path, sidecar, unit):
    source = sources(tmp_path)["r1"]
    assert read_hint(source.path) is None
    write_sidecar(source, sidecar)
    assert read_hint(source.path) == unit


def test_units_that_cannot_be_are_refused_in_one_line(tmp_path):
    maps, brain = ball()
    with pytest.raises(InputError, match=r"sub-1_R1map\.nii\.gz has a brain median of 6\d\d.* when read as 1/ms"):
        infer(tmp_path, maps, brain, {"r1": "1/ms"})
    with pytest.raises(InputError, match=r"sub-1_MTsat\.nii\.gz looks like no known unit of MTsat .*--units") as error:
        infer(tmp_path, {**maps, "mtsat": maps["mtsat"] * 1e5}, brain)
    assert "\n" not in str(error.value)


def test_uncalibrated_pd_that_passes_for_percent_is_doubted(tmp_path):
    maps, brain = ball()
    assert infer(tmp_path, maps, brain)["pd"].notes == ()
    (note,) = infer(tmp_path, {**maps, "pd": maps["pd"] * np.float32(0.7)}, brain)["pd"].notes
    assert note.startswith("PD of white matter is 48.9 p.u., not 69")


def test_times_without_a_value_have_no_rate(tmp_path):
    maps, brain = ball()
    stored = np.where(brain, 1000 / np.where(brain, maps["r1"], 1), 0).astype(np.float32)
    stored[12, 13, 11:14] = 0, -5, np.nan
    reading = infer(tmp_path, {**maps, "r1": stored}, brain, r1="T1map")["r1"]
    done = apply_reading("r1", stored, reading)
    assert np.isnan(done[12, 13, 11:14]).all()
    assert done[12, 13, 10] == pytest.approx(maps["r1"][12, 13, 10], rel=1e-5)


# --- cleaning


def test_clean_maps_stay_as_they_are():
    maps, brain = ball()
    for name, values in maps.items():
        done, cleaning = clean_map(name, values, brain, 8.0)
        np.testing.assert_array_equal(done, values)
        assert cleaning.counts() == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0, -3.0, 1e6])
def test_a_failed_fit_becomes_the_median_around_it(bad):
    maps, brain = ball()
    values = maps["r1"].copy()
    values[12, 13, 11] = bad
    around = np.delete(maps["r1"][11:14, 12:15, 10:13].ravel(), 13)
    done, cleaning = clean_map("r1", values, brain, 8.0)
    assert done[12, 13, 11] == pytest.approx(np.median(around), rel=1e-6)
    changed = done != maps["r1"]
    assert changed.sum() == 1
    assert cleaning.filled == 1
    assert cleaning.counts() == {"above_limit" if bad == 1e6 else "no_value": 1, "filled": 1}


def test_negatives_of_maps_with_values_near_zero_become_zero():
    maps, brain = ball()
    values = maps["mtsat"].copy()
    values[12, 13, 11] = -0.2
    done, cleaning = clean_map("mtsat", values, brain, 8.0)
    assert done[12, 13, 11] == 0
    assert cleaning.counts() == {"negative": 1}


def test_patches_are_filled_from_their_edge_and_large_ones_clipped_or_emptied():
    values, brain = np.full((20, 20, 20), 20, np.float32), np.ones((20, 20, 20), bool)
    values[3:6, 3:6, 3:6] = 1e5  # 27 mm3
    values[10:16, 10:16, 10:16] = 1e5  # 216 mm3
    done, cleaning = clean_map("r2star", values, brain, 1.0)
    np.testing.assert_array_equal(done[3:6, 3:6, 3:6], 20)
    np.testing.assert_array_equal(done[10:16, 10:16, 10:16], LIMITS["r2star"])
    assert cleaning.counts() == {"above_limit": 243, "filled": 27, "clipped": 216}
    # 216 voxels of 0.4 mm3 are small enough
    assert clean_map("r2star", values, brain, 0.4)[1].counts() == {"above_limit": 243, "filled": 243}
    values[10:16, 10:16, 10:16] = np.nan
    done, cleaning = clean_map("r1", values / 20, brain, 1.0)
    np.testing.assert_array_equal(done[10:16, 10:16, 10:16], 0)
    assert cleaning.left == 216


def test_background_is_emptied_and_lends_nothing():
    maps, brain = ball()
    values = np.where(brain, maps["pd"], np.float32(140))
    edge = np.argwhere(brain & ~ndimage.binary_erosion(brain))[0]
    values[tuple(edge)] = np.nan
    done, _ = clean_map("pd", values, brain, 8.0)
    assert not done[~brain].any()
    assert 90 < done[tuple(edge)] < 110


# --- masks


def test_masked_maps_are_told_from_heads_and_noise():
    _, brain = ball((60, 60, 60))
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    assert 0.9 < qmri_mask.litres(brain, affine) < 2.3
    assert qmri_mask.is_masked(brain, affine)
    assert not qmri_mask.is_masked(np.random.default_rng(0).random(brain.shape) > 0.5, affine)
    assert not qmri_mask.is_masked(np.ones((40, 40, 40), bool), affine)
    assert not qmri_mask.is_masked(brain, np.diag([4.5, 4.5, 4.5, 1.0]))


def test_nothing_is_no_mask(tmp_path):
    path = tmp_path / "mask.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), path)
    with pytest.raises(InputError, match=r"mask\.nii\.gz is 0 everywhere: give a mask"):
        qmri_mask.read_mask(path)
    volume = np.zeros((3, 4, 5), np.float32)
    volume[1, :3, 2] = 255, 200, 90
    nib.save(nib.Nifti1Image(volume, np.eye(4)), path)
    assert np.argwhere(qmri_mask.read_mask(path)).tolist() == [[1, 0, 2], [1, 1, 2]]


# --- voxels


def test_a_grid_covers_the_other_about_its_centre():
    affine = np.array([[0.8, 0.1, 0, -70], [-0.1, 0.8, 0, -90], [0, 0, 1.2, -60], [0, 0, 0, 1]])
    target, shape = spaced_grid(affine, (200, 240, 130), 1.0)
    assert np.allclose(np.linalg.norm(target[:3, :3], axis=0), 1)
    middles = [a[:3, :3] @ ((np.array(s) - 1) / 2) + a[:3, 3] for a, s in ((affine, (200, 240, 130)), (target, shape))]
    np.testing.assert_allclose(*middles, atol=1e-9)
    size = np.array([200, 240, 130]) * np.linalg.norm(affine[:3, :3], axis=0)
    assert (np.array(shape) >= size - 1e-3).all()
    assert (np.array(shape) < size + 1).all()


def test_background_does_not_run_into_the_brain():
    _, brain = ball((40, 40, 40))
    affine = np.diag([1.6, 1.6, 1.6, 1.0])
    maps = np.stack([np.where(brain, 70, 0), np.where(brain, 0.9, 0)]).astype(np.float32)
    done, inside, target = resample_maps(maps, brain, affine, 1.0)
    assert inside.sum() / brain.sum() == pytest.approx(1.6**3, rel=0.02)
    np.testing.assert_allclose(done[0][inside], 70, rtol=1e-5)
    np.testing.assert_allclose(done[1][inside], 0.9, rtol=1e-5)
    assert not done[:, ~inside].any()
    assert target[0, 0] == 1


def test_a_ramp_is_interpolated_in_the_world():
    shape, affine = (30, 20, 25), np.diag([0.9, 1.3, 1.1, 1.0])
    affine[:3, 3] = -8, 3, 20
    points = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1) @ affine[:3, :3].T + affine[:3, 3]
    ramp = (points @ [1.0, -2.0, 0.5] + 100).astype(np.float32)
    done, inside, target = resample_maps(ramp[None], np.ones(shape, bool), affine, 1.0)
    inner = ndimage.binary_erosion(inside, iterations=2, border_value=0)
    voxels = np.argwhere(inner)
    wanted = (voxels @ target[:3, :3].T + target[:3, 3]) @ [1.0, -2.0, 0.5] + 100
    np.testing.assert_allclose(done[0][inner], wanted, atol=1e-2)


def test_the_same_spacing_changes_nothing():
    maps, brain = ball()
    stack, affine = np.stack([*maps.values()]), np.diag([2.0, 2.0, 2.0, 1.0])
    done, inside, target = resample_maps(stack, brain, affine, 2.0)
    np.testing.assert_array_equal(done, stack)
    np.testing.assert_array_equal(inside, brain)
    np.testing.assert_array_equal(target, affine)
