"""The embedded IXI cohort: tissue maps against the head they were made of, runs cut off, the command."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from scripts.cohort import ixi_cohort as ixi
from scripts.cohort.head import head_grid
from scripts.cohort.person import draw_person
from scripts.cohort.scanner import make_head
from scripts.cohort.template import TISSUES
from scripts.data.ixi import find_ixi
from scripts.errors import InputError

SPACING = 4.0
SETTINGS: dict[str, Any] = {"seed": 7, "spacing": SPACING, "progress": False}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ixi.make_ixi_cohort(tmp_path_factory.mktemp("cohort") / "ixi", guys=1, hh=1, iop=0, **SETTINGS)


@pytest.fixture
def copy(cohort: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(cohort, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def tissue_maps(entry: dict[str, Any]) -> NDArray[np.float64]:
    return np.stack([nib.load(path).get_fdata() for path in entry["label"]])


def test_tissue_maps_are_the_shares_that_the_head_was_made_of(cohort: Path) -> None:
    head = make_head(draw_person(10_002, 7, 0.0), 7, head_grid(SPACING), 1.5)
    shares = dict(zip(TISSUES, map(head.anatomy.volume, head.anatomy.fractions), strict=True))
    deep = shares["caudate"] + shares["putamen"] + shares["thalamus"] + shares["pallidum"]
    known = np.stack([shares["grey"] + deep, shares["white"], shares["csf"] + head.fluid])
    for modality in ("T1w", "T2w", "PDw"):
        entry = find_ixi(cohort, modality)[0]
        found, affine = tissue_maps(entry), nib.load(entry["image"]).affine
        index = np.indices(found.shape[1:]).reshape(3, -1)
        world = nib.affines.apply_affine(affine, index.T)
        place = nib.affines.apply_affine(np.linalg.inv(head.anatomy.grid.affine), world).T
        expected = np.stack([ndimage.map_coordinates(one, place, order=1, mode="grid-constant") for one in known])
        np.testing.assert_allclose(found.reshape(3, -1), expected, atol=1.5 / 255)
        sure = expected.max(0) > 0.6
        assert sure.sum() > 5000
        np.testing.assert_array_equal(found.reshape(3, -1)[:, sure].argmax(0), expected[:, sure].argmax(0))
        assert np.rint(found * 255).sum(0).max() <= 255


# noise and texture, which no map explains, are most of what is left of PDw
@pytest.mark.parametrize(("modality", "share"), [("T1w", 0.7), ("T2w", 0.8), ("PDw", 0.98)])
def test_tissue_maps_fit_the_image_better_than_any_shifted_by_a_voxel(
    cohort: Path, modality: str, share: float
) -> None:
    for entry in find_ixi(cohort, modality):
        image, maps = nib.load(entry["image"]).get_fdata(), tissue_maps(entry)
        image /= ndimage.gaussian_filter(image, 5.0) + 1.0  # without the coil's sensitivity
        inside = ndimage.binary_erosion(maps[:2].sum(0) > 0.5, iterations=2)

        def residual(shift: tuple[int, int, int], inside: Any = inside, image: Any = image, maps: Any = maps) -> float:
            columns = np.roll(maps, shift, (1, 2, 3))[:, inside].T
            fit = columns @ np.linalg.lstsq(columns, image[inside], rcond=None)[0]
            return float(np.square(fit - image[inside]).sum())

        shifts = [tuple(sign * row) for row in np.eye(3, dtype=int) for sign in (-1, 1)]
        assert residual((0, 0, 0)) < share * min(residual(shift) for shift in shifts)


def test_t2_and_pd_share_a_grid_that_is_not_that_of_t1(cohort: Path) -> None:
    for name in ("IXI002-Guys-0704", "IXI003-HH-0706"):
        t1, t2, pd = (nib.load(cohort / f"{name}-{kind}.nii.gz") for kind in ("T1", "T2", "PD"))
        assert t2.shape == pd.shape != t1.shape
        np.testing.assert_array_equal(t2.affine, pd.affine)
        assert nib.aff2axcodes(t1.affine) == ("P", "S", "R")
        assert nib.aff2axcodes(t2.affine) == ("L", "A", "S")


def test_a_run_cut_off_leaves_no_half_subject_to_be_found(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, write = tmp_path / "ixi", ixi.write_image
    for allowed in (1, 6):
        count = iter(range(allowed))

        def cut_off(*args: Any, count: Any = count, **settings: Any) -> None:
            if next(count, None) is None:
                raise OSError("no space left")
            write(*args, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(ixi, "write_image", cut_off)
            with pytest.raises(OSError, match="no space left"):
                ixi.make_ixi_cohort(folder, guys=1, hh=1, iop=0, jobs=1, **SETTINGS)
        assert any(folder.glob(".part-*/*"))
        with pytest.raises(InputError, match="holds no file named as IXI's"):
            find_ixi(folder)
    (folder / ".part-README").write_text("cut off, too")
    ixi.make_ixi_cohort(folder, guys=1, hh=1, iop=0, **{**SETTINGS, "spacing": 4})  # a whole number is one, too
    assert contents(folder) == contents(cohort)


def test_a_cohort_can_grow_but_not_shrink(copy: Path) -> None:
    ixi.make_ixi_cohort(copy, guys=2, hh=1, iop=0, **SETTINGS)
    assert len(find_ixi(copy)) == 3
    with pytest.raises(InputError, match="holds 3 subjects, among them IXI005-Guys-0710, not of the 2 asked for"):
        ixi.make_ixi_cohort(copy, guys=1, hh=1, iop=0, **SETTINGS)


@pytest.mark.parametrize(
    ("record", "told"),
    [(b"{", "is not readable"), (b"\xff\xfe", "is not readable"), (b"[]", "holds no settings")],
    ids=["cut off", "no text", "no settings"],
)
def test_a_damaged_record_is_refused(copy: Path, record: bytes, told: str) -> None:
    (copy / "cohort.json").write_bytes(record)
    with pytest.raises(InputError, match=told):
        ixi.make_ixi_cohort(copy, guys=1, hh=1, iop=0, **SETTINGS)


@pytest.mark.parametrize("spacing", [0, -1.0, 0.5, 9.0, float("nan"), "fine"])
@pytest.mark.parametrize("make", [ixi.cohort_ixi, ixi.make_ixi_cohort])
def test_voxels_out_of_range_are_refused(tmp_path: Path, make: Callable[..., object], spacing: float) -> None:
    with pytest.raises(InputError, match=f"spacing is {re.escape(str(spacing))} mm: choose a number"):
        make(str(tmp_path / "out"), spacing=spacing)
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.txt is a file"):
        ixi.make_ixi_cohort(tmp_path / "thesis.txt" / "ixi", guys=1, hh=0, iop=0, **SETTINGS)
    with pytest.raises(InputError, match="holds other files"):
        ixi.make_ixi_cohort(tmp_path, guys=1, hh=0, iop=0, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_the_command_says_what_it_does_and_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ixi.cohort_ixi(str(tmp_path / "out"), guys=1, hh=0, iop=0, spacing=8.0)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Simulating heads of 1 (Guys), 0 (HH) and 0 (IOP) subjects, 8 mm, seed 0")
    assert str(tmp_path / "out") in told[1]
    for bundle, line in zip(("ixi_seg", "ixi_denoise"), told[2:], strict=True):
        config = f"bundles/{bundle}/configs/train.json"
        assert line == f"Next: python -m monai.bundle run --config_file {config} --dataset_dir {tmp_path / 'out'}"
        assert Path(config).is_file()


def test_a_flair_is_added_and_nothing_else_changes(cohort: Path, tmp_path: Path) -> None:
    made = ixi.make_ixi_cohort(tmp_path / "more", guys=1, hh=1, iop=0, flair=True, **SETTINGS)
    before, after = contents(cohort), contents(made)
    added = {name for name in after if name.endswith("-FLAIR.nii.gz")}
    assert len(added) == 2 * 4
    assert {name: data for name, data in after.items() if name not in added} == before
    entry, t2 = find_ixi(made, "FLAIR")[0], find_ixi(made, "T2w")[0]
    for one, other in zip(entry["label"], t2["label"], strict=True):
        np.testing.assert_array_equal(nib.load(one).get_fdata(), nib.load(other).get_fdata())
    image, (grey, _white, fluid) = nib.load(entry["image"]).get_fdata(), tissue_maps(entry)
    ventricle = fluid > 0.95
    assert image[ventricle].mean() < 0.5 * image[grey > 0.8].mean()  # fluid is nulled
    with pytest.raises(InputError, match=r"holds no FLAIR image"):
        find_ixi(cohort, "FLAIR")
