"""Quality rows: slices in world coordinates, numbers known in advance, outliers, bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from scripts.cohort import arc_cohort, ixi_cohort, qmri_cohort
from scripts.errors import InputError
from scripts.qc import write_page, write_qc, write_row
from scripts.qc.look import PIXEL, Box, Outline, Strip, box_around, nearest_to_centre, slices
from scripts.qc.numbers import robust_z, window_of
from scripts.qc.outliers import judge, number
from scripts.qc.rows import Row, read_rows
from scripts.qc.sheet import LARGEST, compose, encode

TISSUES = {"T1": (600.0, 800.0, 200.0), "T2": (500.0, 400.0, 1600.0), "PD": (560.0, 500.0, 680.0)}
SIDES = np.array([[0, 0, -4.0, 60.0], [3.0, 0, 0, -75.0], [0, 3.0, 0, -75.0], [0, 0, 0, 1]])  # sagittal slices
SHAPE = (50, 50, 30)
VOXEL = 0.036  # ml


def world(shape: tuple[int, ...] = SHAPE, affine: NDArray[Any] = SIDES) -> NDArray[np.float64]:
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def radius() -> NDArray[np.float64]:
    return np.sqrt(np.square(world()).sum(0))


def shells() -> list[NDArray[np.bool_]]:
    """Grey matter, white matter, fluid, and scalp, from 45 to 60, 0 to 45, 60 to 65 and 65 to 70 mm."""
    r = radius()
    return [(r >= low) & (r < high) for low, high in ((45, 60), (0, 45), (60, 65), (65, 70))]


def save(path: Path, voxels: NDArray[Any], affine: NDArray[Any] = SIDES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def write_head(root: Path, name: str, kinds: dict[str, str], *, scale: float = 1.0, maps: bool = True) -> None:
    """Write a subject of IXI: ``kinds`` tells which contrast each image has."""
    parts = shells()
    for kind, contrast in kinds.items():
        image = sum(v * part for v, part in zip((*TISSUES[contrast], 300.0), parts, strict=True))
        save(root / f"{name}-{kind}.nii.gz", (np.asarray(image) * scale).astype(np.float32))
        for tissue in (1, 2, 3) if maps else ():
            save(root / f"c{tissue}{name}-{kind}.nii.gz", parts[tissue - 1].astype(np.uint8))


ALL = {"T1": "T1", "T2": "T2", "PD": "PD"}


def read(root: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "qc" / f"{name}.json").read_text())
    return found


# slices


def test_slices_lie_where_radiology_has_them(oblique: NDArray[np.float64]) -> None:
    shape = (40, 36, 30)
    volume = MetaTensor(torch.from_numpy(world(shape, oblique)).float(), affine=torch.from_numpy(oblique))
    middle = oblique[:3, :3] @ ((np.array(shape) - 1) / 2) + oblique[:3, 3]
    half = np.array([6.0, 7.5, 9.0])
    box = Box(middle - half, middle + half, middle + half / 7)
    for (across, down), cut in zip(((0, 1), (0, 2), (1, 2)), slices(volume, box), strict=True):
        rows, columns = np.indices(cut.shape[1:])
        assert cut.shape[1:] == (
            round(2 * half[down] / PIXEL),
            round(2 * half[across] / PIXEL),
        )
        np.testing.assert_allclose(cut[across], box.high[across] - PIXEL * columns, atol=1e-3)
        np.testing.assert_allclose(cut[down], box.high[down] - PIXEL * rows, atol=1e-3)
        np.testing.assert_allclose(cut[3 - across - down], box.at[3 - across - down], atol=1e-3)


def test_a_box_holds_the_brain_and_cuts_beside_its_middle() -> None:
    box = box_around(radius() < 45, SIDES, margin=5.0)
    np.testing.assert_allclose(box.high - box.low, 100.0, atol=8.0)
    np.testing.assert_allclose(box.at, (-10.0, 0.0, 0.0), atol=0.5)
    cut = box_around(radius() < 45, SIDES, margin=5.0, height=60.0)
    assert cut.high[2] == box.high[2]
    assert cut.high[2] - cut.low[2] == pytest.approx(60.0)


def test_the_middle_of_a_hollow_lesion_is_in_the_lesion() -> None:
    x, y, _ = world()
    ring = (np.hypot(x, y) > 20) & (np.hypot(x, y) < 26)
    point = nearest_to_centre(ring, SIDES)
    assert 20 < float(np.hypot(*point[:2])) < 26


def test_a_window_leaves_no_brain_in_the_dark() -> None:
    cut = np.concatenate([np.full(900, 400.0), np.full(100, 1600.0)]).reshape(10, 100).astype(np.float32)
    assert window_of([cut]) == (0.0, 1000.0)
    assert window_of([np.zeros((4, 4), np.float32)]) == (0.0, 1.0)
    assert window_of([cut - 2000])[0] == -1600.0


# pictures


def test_outlines_are_drawn_around_what_they_mark() -> None:
    x, y = np.meshgrid(np.arange(120), np.arange(120))
    disc = ((x - 60) ** 2 + (y - 50) ** 2 < 30**2).astype(np.float32)
    sheet = np.asarray(compose([Strip("a", [disc] * 3, (0.0, 4.0), [Outline("disc", "#ff0000", [disc] * 3)])])).astype(
        int
    )
    left = sheet[:, :120]
    red = (left[..., 0] == 255) & (left[..., 1] == 0)
    top = int(np.flatnonzero((left[..., 1] > 50).sum(1) > 30)[0])
    rows, columns = np.nonzero(red[top - 3 :])
    distance = np.hypot(columns - 60, rows + top - 3 - (sheet.shape[0] - 6 - 120) - 50)
    assert len(rows) > 150
    assert distance.min() > 28
    assert distance.max() < 31.5


def test_the_worst_picture_is_small_enough() -> None:
    noise = np.random.default_rng(0).random((300, 300)).astype(np.float32)
    picture = compose([Strip(f"noise {n}", [noise] * 3, (0.0, 1.0)) for n in range(6)])
    encoded = encode(picture)
    assert len(encoded) <= LARGEST
    assert encoded[:3] == b"\xff\xd8\xff"


# numbers


def test_robust_z_by_hand() -> None:
    # median 3, distances 2 1 0 1 97, their median 1
    np.testing.assert_allclose(robust_z([1, 2, 3, 4, 100]), np.array([-2, -1, 0, 1, 97]) / 1.4826)
    assert robust_z([1, 2, 3, 100]) == [0.0] * 4
    assert robust_z([5.0] * 6) == [0.0] * 6
    # MAD 0, mean distance 2
    np.testing.assert_allclose(robust_z([5, 5, 5, 5, 15]), [0, 0, 0, 0, 10 / (1.2533 * 2)])
    assert robust_z([]) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.22236, "0.222"), (1.0, "1.00"), (99.96, "100"), (1627.4, "1627"), (-4.25, "-4.25"), (float("nan"), "n/a")],
)
def test_numbers_have_three_digits(value: float, told: str) -> None:
    assert number(value) == told


def row(name: str, group: str, **measures: float) -> Row:
    return Row(name, name, group, ["T1"], (10, 10), measures, [], {})


def test_numbers_are_judged_within_their_group() -> None:
    rows = [row(f"a{n}", "A", x=10 + n) for n in range(6)] + [row(f"b{n}", "B", x=100 + n) for n in range(6)]
    rows += [row("a9", "A", x=100), row("few", "C", x=1e6)]
    judged = judge(rows)
    assert list(judged.found) == ["a9"]
    assert judged.found["a9"]["x"] == pytest.approx((100 - 13) / (1.4826 * 2))
    assert judged.medians["B", "x"] == "102 ± 2.22 (n = 6)"


def test_volumes_of_lesions_are_judged_by_their_logarithm() -> None:
    rows = [row(f"s{n}", "A", **{"lesion [ml]": 2.0**n, "x": 2.0**n}) for n in range(9)]
    assert {name for found in judge(rows).found.values() for name in found} == {"x"}


# IXI


def test_volumes_medians_and_ratios_of_ixi(tmp_path: Path) -> None:
    write_head(tmp_path, "IXI002-Guys-0828", ALL)
    write_row(tmp_path, "ixi", "IXI002-Guys-0828", notes=["by hand"], measures={"T1: turned [deg]": 1.5})
    found = read(tmp_path, "IXI002-Guys-0828")
    assert (found["group"], found["images"], found["notes"]) == ("Guys", ["T1", "T2", "PD"], ["by hand"])
    assert found["measures"]["T1: turned [deg]"] == 1.5
    for kind, values in TISSUES.items():
        for tissue, part, value in zip(("grey", "white", "CSF"), shells(), values, strict=False):
            assert found["measures"][f"{kind}: {tissue} [ml]"] == pytest.approx(part.sum() * VOXEL, rel=1e-5)
            assert found["measures"][f"{kind}: {tissue} median"] == value
        assert found["measures"][f"{kind}: CSF / white"] == pytest.approx(values[2] / values[1], rel=1e-5)
    with Image.open(tmp_path / "qc" / "IXI002-Guys-0828.jpg") as picture:
        assert list(picture.size) == found["size"]
    assert len(found["files"]) == 12
    assert not list((tmp_path / "qc").glob(".part*"))


def test_swapped_t2_and_pd_are_noted(tmp_path: Path) -> None:
    write_head(tmp_path, "IXI002-Guys-0828", {"T1": "T1", "T2": "PD", "PD": "T2"})
    write_row(tmp_path, "ixi", "IXI002-Guys-0828")
    (note,) = read(tmp_path, "IXI002-Guys-0828")["notes"]
    assert note.startswith("T2 and PD look swapped: fluid is 4 times as bright as white matter in PD, 1.4 times in T2")


def test_a_head_of_another_contrast_is_no_t1(tmp_path: Path) -> None:
    write_head(tmp_path, "IXI002-Guys-0828", {"T1": "T2"})
    write_row(tmp_path, "ixi", "IXI002-Guys-0828")
    notes = read(tmp_path, "IXI002-Guys-0828")["notes"]
    assert notes[:2] == ["no T2", "no PD"]
    assert notes[2].startswith("T1 looks like another contrast")


def test_images_without_maps_have_a_row(tmp_path: Path) -> None:
    write_head(tmp_path / "deep", "IXI002-Guys-0828", ALL, maps=False)
    write_row(tmp_path, "ixi", "IXI002-Guys-0828")
    found = read(tmp_path, "IXI002-Guys-0828")
    assert found["measures"] == {}
    assert found["notes"] == [f"no tissue maps of {kind}" for kind in ALL]
    assert list(found["files"]) == [f"deep/IXI002-Guys-0828-{kind}.nii.gz" for kind in ALL]


def test_a_subject_that_is_not_there_or_damaged_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image of IXI002-Guys-0828"):
        write_row(tmp_path, "ixi", "IXI002-Guys-0828")
    write_head(tmp_path, "IXI002-Guys-0828", {"T1": "T1"})
    save(tmp_path / "c2IXI002-Guys-0828-T1.nii.gz", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(InputError, match=r"c2IXI002-Guys-0828-T1.nii.gz lies on another grid"):
        write_row(tmp_path, "ixi", "IXI002-Guys-0828")
    assert not list((tmp_path / "qc").glob("*.json"))


# ARC


def write_stroke(
    root: Path,
    name: str,
    *,
    x: float,
    others: tuple[str, ...] = ("T1w",),
    size: float = 12.0,
    shift: float = 0.0,
    mask_affine: NDArray[Any] = SIDES,
) -> int:
    """Write a head with a ball of a lesion at ``x`` [mm], all images moved off x = 0, and return its voxels."""
    moved = SIDES + np.array([[0, 0, 0, shift], *[[0.0] * 4] * 3])
    place = world() - np.array([x, 10.0, 10.0])[:, None, None, None]
    lesion = np.sqrt(np.square(place).sum(0)) < size
    head = 500.0 * (radius() < 65) + 300.0 * ((radius() > 65) & (radius() < 70))
    anat = f"{name}/ses-1/anat/{name}_ses-1"
    save(root / f"{anat}_T2w.nii.gz", (head + 900 * lesion).astype(np.float32), moved)
    for other in others:
        save(root / f"{anat}_{other}.nii.gz", (head - 300 * lesion).astype(np.float32), moved)
    mask_affine = moved if mask_affine is SIDES else mask_affine
    save(root / f"derivatives/lesion_masks/{anat}_T2w_desc-lesion_mask.nii.gz", lesion.astype(np.uint8), mask_affine)
    return int(lesion.sum())


@pytest.mark.parametrize(("x", "left"), [(-30.0, 100.0), (30.0, 0.0)])
def test_volume_side_and_intensities_of_a_lesion(tmp_path: Path, x: float, left: float) -> None:
    voxels = write_stroke(tmp_path, "sub-M2001", x=x, shift=25.0)
    write_row(tmp_path, "arc", "sub-M2001")
    found = read(tmp_path, "sub-M2001")
    assert found["measures"]["lesion [ml]"] == pytest.approx(voxels * VOXEL, rel=1e-5)
    assert found["measures"]["lesion on the left [%]"] == left
    assert found["measures"]["T2w: lesion / head"] == pytest.approx(1400 / 500, rel=1e-3)
    assert found["measures"]["T1w: lesion / head"] == pytest.approx(200 / 500, rel=1e-3)
    assert (found["notes"], found["images"]) == ([], ["T2w", "T1w"])


def test_doubtful_masks_are_noted(tmp_path: Path) -> None:
    write_stroke(tmp_path, "sub-M1", x=-30.0, size=0.0)
    write_stroke(tmp_path, "sub-M2", x=-30.0, mask_affine=SIDES + np.array([[0, 0, 0, 200.0], *[[0.0] * 4] * 3]))
    for name in ("sub-M1", "sub-M2"):
        write_row(tmp_path, "arc", name)
    assert read(tmp_path, "sub-M1")["notes"] == ["the mask marks no voxel"]
    assert read(tmp_path, "sub-M1")["measures"]["lesion [ml]"] == 0
    assert read(tmp_path, "sub-M2")["notes"] == [
        "the mask lies on another grid than T2w",
        "most of the lesion lies outside the head",
    ]
    with pytest.raises(InputError, match="sub-M3 holds no lesion mask"):
        write_row(tmp_path, "arc", "sub-M3")


# quantitative maps


def test_medians_of_maps_by_r1(cohort: Path) -> None:
    write_row(cohort, "qmri", "sub-001")
    write_row(cohort, "qmri", "sub-003")
    found = read(cohort, "sub-001")
    known = {"PD [p.u.]": (80, 70, 100), "R1 [1/s]": (0.62, 0.95, 0.24), "R2* [1/s]": (17, 21, 2)}
    for name, values in known.items():
        for tissue, value in zip(("grey", "white", "CSF"), values, strict=True):
            assert found["measures"][f"{name}: {tissue} median"] == pytest.approx(value, rel=0.02)
    assert found["group"] == "healthy"
    assert read(cohort, "sub-003")["group"] == "all"
    assert read(cohort, "sub-003")["images"] == ["PD", "R1", "R2*", "MTsat"]


def test_sessions_have_rows_of_their_own(write_subject: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_subject("sub-01", session="ses-1", leave_out=("MTsat",))
    write_subject("sub-01", session="ses-2")
    image = nib.load(folder / "sub-01_ses-1_R1map.nii.gz")
    marked = ndimage.binary_erosion(image.get_fdata() > 0.8, iterations=3)
    save(folder / "sub-01_ses-1_desc-lesion_mask.nii.gz", marked.astype(np.uint8), image.affine)
    write_row(tmp_path / "qmri", "qmri", "sub-01")
    rows = read_rows(tmp_path / "qmri", "qmri")
    assert [(one.name, one.subject) for one in rows] == [("sub-01_ses-1", "sub-01"), ("sub-01_ses-2", "sub-01")]
    assert rows[0].measures["lesion [ml]"] == pytest.approx(marked.sum() * 0.008, rel=1e-5)
    assert "MTsat" not in rows[0].images
    assert "MTsat" in rows[1].images


# cohorts


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohorts")
    ixi_cohort.cohort_ixi(str(root / "ixi"), guys=1, hh=1, iop=0, spacing=4.0)
    arc_cohort.cohort_arc(str(root / "arc"), subjects=2, spacing=4.0)
    qmri_cohort.cohort_qmri(str(root / "qmri"), subjects=2, spacing=4.0)
    return root


@pytest.mark.parametrize("layout", ["ixi", "arc", "qmri"])
def test_a_cohort_has_a_page_of_small_rows(cohorts: Path, layout: Any, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cohorts / layout, tmp_path / layout))
    before = {path.name: path.read_bytes() for path in (root / "qc").iterdir()}
    rows = read_rows(root, layout)
    assert len(rows) == 2
    assert sorted(before) == sorted(["index.html", *(f"{one.name}.{end}" for one in rows for end in ("jpg", "json"))])
    assert sum(map(len, before.values())) < 200_000 * len(rows)
    text = before["index.html"].decode()
    assert "embedded cohort: simulated" in text
    assert not any(one.notes for one in rows)
    shutil.rmtree(root / "qc")
    write_qc(root, layout, progress=False)
    assert {path.name: path.read_bytes() for path in (root / "qc").iterdir()} == before


def test_a_cohort_with_a_page_is_continued(cohorts: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(cohorts / "ixi", tmp_path / "ixi"))
    kept = (root / "qc" / "IXI002-Guys-0704.jpg").stat().st_mtime_ns
    ixi_cohort.cohort_ixi(str(root), guys=2, hh=1, iop=0, spacing=4.0)
    assert len(read_rows(root, "ixi")) == 3
    assert (root / "qc" / "IXI002-Guys-0704.jpg").stat().st_mtime_ns == kept


def test_rows_follow_their_files(cohorts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = Path(shutil.copytree(cohorts / "ixi", tmp_path / "ixi"))
    first, second = (one.name for one in read_rows(root, "ixi"))
    image = root / f"{first}-T1.nii.gz"
    image.write_bytes(image.read_bytes()[:-100])
    (root / "qc" / f"{second}.json").write_text("{")
    text = write_qc(root, "ixi", progress=False).read_text()
    assert "Left out: 1" in text
    assert "is cut off or damaged" in text
    assert f'id="{second}"' in text
    assert f'id="{first}"' not in text
    for path in root.glob(f"*{first}-*"):
        path.unlink()
    text = write_page(root, "ixi").read_text()
    assert [one.name for one in read_rows(root, "ixi")] == [second]
    assert first not in text
