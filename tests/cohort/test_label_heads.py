from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.cohort.arc_cohort import make_arc_cohort
from scripts.cohort.ixi_cohort import make_ixi_cohort
from scripts.cohort.label_cohort import find_source
from scripts.cohort.label_head import mix_head, place_head
from scripts.cohort.label_maps import read_label_map
from scripts.cohort.label_shape import CENTRE, draw_deformation, label_grid
from scripts.cohort.label_tissues import BRAIN, CODES, SEGMENTS, draw_tissues
from scripts.cohort.qmri_cohort import make_qmri_cohort
from scripts.data.ixi import find_ixi, ixi_subjects, split_ixi
from scripts.data.layout import read_people
from scripts.data.qmri import find_subjects, load_maps
from scripts.data.regions import RegionDataset
from scripts.data.splits import PARTS
from scripts.data.store import prepare_store
from scripts.data.store_read import read_store_header, read_voxels
from scripts.errors import InputError
from scripts.sources.downstream_data import downstream_data
from scripts.sources.pretraining_data import pretraining_data
from tests.cohort.head_labels import head_labels, write_label_map, write_lesions, write_people
from tests.commands.client import Commands

SPACING = 5.0


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("maps"))


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lesions(tmp_path_factory.mktemp("lesions"))


@pytest.fixture(scope="module")
def brains(people: Path, lesions: Path, tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    out = tmp_path_factory.mktemp("brains") / "qmri"
    more: dict[str, Any] = {"label_maps": people, "lesions": lesions, "jobs": 2, "progress": False}
    with commands.spawning():
        return make_qmri_cohort(out, 6, 5, SPACING, stroke_fraction=0.5, **more)


@pytest.fixture(scope="module")
def heads(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heads") / "qmri"
    return make_qmri_cohort(out, 3, 5, SPACING, label_maps=people, whole_heads=True, progress=False)


def read(root: Path, subject: str, suffix: str) -> np.ndarray:
    return np.asarray(nib.load(root / subject / "anat" / f"{subject}_{suffix}.nii.gz").dataobj)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def participants(root: Path) -> list[dict[str, str]]:
    with (root / "participants.tsv").open() as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def test_heads_are_one_of_each_person_and_then_the_next(brains: Path) -> None:
    rows = participants(brains)
    assert [row["person"] for row in rows] == ["person_00", "person_01", "person_02"] * 2
    assert [row["group"] for row in rows] == ["healthy", "stroke"] * 3
    for row in rows:
        mask = brains / row["participant_id"] / "anat" / f"{row['participant_id']}_desc-lesion_mask.nii.gz"
        assert mask.is_file() == (row["group"] == "stroke") == (float(row["lesion_volume"]) > 0)


def test_tissues_measure_what_they_should_and_lie_in_order(brains: Path) -> None:
    pd, r1, r2, seg = (read(brains, "sub-001", name) for name in ("PDmap", "R1map", "R2map", "dseg"))
    assert set(np.unique(seg)) == {0, 1, 2, 3, 4}
    assert ((pd > 0) == (seg > 0)).all()
    assert ((r1 > 0) == (seg > 0)).all()
    for label, density, rate in ((1, 80, 0.62), (2, 70, 0.95), (3, 100, 0.24)):
        assert np.median(pd[seg == label]) == pytest.approx(density, abs=5)
        assert np.median(r1[seg == label]) == pytest.approx(rate, rel=0.25)
    assert np.median(r2[seg == 3]) < 3 < 10 < np.median(r2[seg == 2])


def test_lesions_lie_in_parenchyma_where_their_masks_lie_and_look_like_fluid_and_gliosis(brains: Path) -> None:
    for subject in ("sub-002", "sub-004", "sub-006"):
        mask, seg = (read(brains, subject, name) for name in ("desc-lesion_mask", "dseg"))
        assert ((seg == 5) == (mask > 0)).all()
        affine = nib.load(brains / subject / "anat" / f"{subject}_dseg.nii.gz").affine
        centre = np.argwhere(mask).mean(0) @ affine[:3, :3].T + affine[:3, 3]
        side = 1 if subject in ("sub-004", "sub-006") and centre[0] > 0 else -1  # heads may be flipped
        assert 20 < side * centre[0] < 60
        r1, density, mt = (read(brains, subject, name) for name in ("R1map", "PDmap", "MTsat"))
        assert r1[mask > 0].mean() < r1[seg == 1].mean()
        assert density[mask > 0].mean() > density[seg == 1].mean()
        assert mt[mask > 0].mean() < mt[seg == 1].mean()


def test_volumes_of_tissue_are_those_of_the_label_map(people: Path, brains: Path) -> None:
    labels = read_label_map(people / "person_00.nii.gz", "x")
    codes = SEGMENTS[labels.tissues]
    expected = np.array([(codes == label).sum() for label in (1, 2, 4)]) * 4.0**3
    seg = read(brains, "sub-001", "dseg")
    found = np.array([(seg == label).sum() for label in (1, 2, 4)]) * SPACING**3
    np.testing.assert_allclose(found, expected, rtol=0.12)


def test_a_second_head_of_a_person_is_another_one_and_people_differ(brains: Path) -> None:
    segments = [read(brains, f"sub-{number:03d}", "dseg") for number in (1, 2, 3, 4)]
    widths = [np.ptp(np.argwhere((seg > 0) & (seg != 3))[:, 0]) for seg in segments]
    assert widths[0] > widths[1] > widths[2]
    assert ((segments[0] == 2) != (segments[3] == 2)).sum() > 0.05 * (segments[0] == 2).sum()


def test_the_same_seed_gives_the_same_bytes_whatever_the_count_and_jobs(
    brains: Path, people: Path, lesions: Path, tmp_path: Path
) -> None:
    settings = {"stroke_fraction": 0.5, "label_maps": people, "lesions": lesions, "progress": False}
    again = make_qmri_cohort(tmp_path / "again", 2, 5, SPACING, jobs=1, **settings)
    more, fewer = contents(brains), contents(again)
    anatomy = [name for name in fewer if name.startswith("sub-")]
    assert len(anatomy) == 2 * (2 * 5 + 1) + 2
    assert all(more[name] == fewer[name] for name in anatomy)
    assert (brains / "cohort.json").read_bytes() == (again / "cohort.json").read_bytes()
    other = make_qmri_cohort(tmp_path / "other", 1, 6, SPACING, jobs=1, **settings)
    assert contents(other)["sub-001/anat/sub-001_R1map.nii.gz"] != more["sub-001/anat/sub-001_R1map.nii.gz"]
    with pytest.raises(InputError, match="holds a cohort made with label_maps"):
        make_qmri_cohort(again, 2, 5, SPACING, **{**settings, "label_maps": None, "lesions": None})
    write_label_map(tmp_path / "one" / "person_00.nii.gz", head_labels())
    with pytest.raises(InputError, match="holds a cohort made with label_maps 3, sha256"):
        make_qmri_cohort(again, 2, 5, SPACING, **{**settings, "label_maps": tmp_path / "one"})


def test_a_whole_head_has_the_same_brain_with_bone_fat_and_air_around_it(heads: Path, brains: Path) -> None:
    maps = {name: read(heads, "sub-001", name) for name in ("PDmap", "R1map", "R2starmap", "R2map", "MTsat")}
    seg, brain = read(heads, "sub-001", "dseg"), read(brains, "sub-001", "dseg")
    head = maps["PDmap"] > 0
    assert head.sum() > 1.8 * (seg > 0).sum()
    assert all(((volume > 0) <= head).all() for volume in maps.values())
    assert (maps["R1map"][head] > 0).all()
    np.testing.assert_allclose(
        [(seg == label).sum() for label in (1, 2, 4)], [(brain == label).sum() for label in (1, 2, 4)], rtol=0.1
    )
    outside = head & (seg == 0)
    assert (maps["R1map"][outside] > 1.6).sum() > 500  # fat
    assert (maps["R2starmap"][outside] > 60).sum() > 200  # bone
    assert (maps["PDmap"][outside] < 25).sum() > 200
    sidecar = json.loads((heads / "sub-001" / "anat" / "sub-001_R1map.json").read_text())
    assert sidecar["SkullStripped"] is False
    assert json.loads((brains / "sub-001" / "anat" / "sub-001_R1map.json").read_text())["SkullStripped"] is True


def test_loaders_take_whole_heads_and_draw_regions_around_the_brain(
    heads: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = prepare_store(find_subjects(heads), tmp_path, progress=False)
    assert not caplog.messages
    assert [entry["person"] for entry in stored] == ["person_00", "person_01", "person_02"]
    maps, _ = load_maps(stored[0])
    assert maps.shape[0] == 5
    assert maps[2].max() > 60
    header = read_store_header(stored[0]["store"])
    seg = read(heads, "sub-001", "dseg")
    voxels = read_voxels(stored[0]["store"]) + np.array(header.offset)
    assert (seg[tuple(voxels.T)] > 0).all()
    assert RegionDataset(stored, 16, 2)[0]["maps"].shape == (5, 16, 16, 16)


def test_partial_volume_is_the_share_of_finer_voxels(people: Path) -> None:
    """At 8 mm the shares of a head are about the means over those that a head of 2 mm has in the same places."""
    person = read_label_map(people / "person_00.nii.gz", "x")
    shape = draw_deformation(person, np.random.default_rng(3), mild=False)
    values = draw_tissues(np.random.default_rng(0))
    means = []
    for spacing in (8.0, 2.0):
        grid = label_grid(spacing, whole_head=False)
        place = place_head(person, shape, grid, whole_head=False)
        head = mix_head(person, person.tissues, place, values, np.random.default_rng(1))
        np.testing.assert_allclose(head.shares.sum(0), 1.0, atol=0.02)
        means.append(head.shares.sum(1) * spacing**3 / 1000.0)
    np.testing.assert_allclose(means[0], means[1], rtol=0.08, atol=4.0)


def test_deformations_are_one_to_one_and_a_mild_one_is_nearly_none(people: Path) -> None:
    from scripts.cohort.anatomy import to_template

    person = read_label_map(people / "person_00.nii.gz", "x")
    grid = label_grid(4.0, whole_head=True)
    for seed, mild in ((0, True), (1, False), (2, False), (3, False)):
        shape = draw_deformation(person, np.random.default_rng(seed), mild=mild)
        points = to_template(shape, grid) * np.array(person.spacing)[:, None, None, None]
        slopes = np.stack([np.stack(np.gradient(axis, 4.0)) for axis in points])
        jacobian = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)))
        assert (np.sign(jacobian) == np.sign(jacobian.flat[0])).all()
        places = np.stack(np.meshgrid(*grid.axes(), indexing="ij"))
        moved = points - (places + (person.centre * person.spacing - np.array(CENTRE))[:, None, None, None])
        distance = np.linalg.norm(moved[:, 10:40, 15:50, 25:55], axis=0).mean()
        assert (distance < 4.0) == mild


def test_settings_without_label_maps_and_brains_as_whole_heads_are_refused(tmp_path: Path) -> None:
    for name, value in (("whole_heads", True), ("lesions", "somewhere")):
        with pytest.raises(InputError, match=f"{name} is for heads from label maps"):
            make_qmri_cohort(tmp_path / "x", 1, 0, SPACING, **{name: value}, progress=False)
    folder = write_people(tmp_path / "brains", 1, whole=False)
    with pytest.raises(InputError, match=r"person_00.nii.gz has no labels outside the brain: leave whole_heads out"):
        make_qmri_cohort(tmp_path / "y", 1, 0, SPACING, label_maps=folder, whole_heads=True, progress=False)
    out = make_qmri_cohort(tmp_path / "z", 1, 0, SPACING, label_maps=folder, progress=False)
    assert (read(out, "sub-001", "dseg") == 3).sum() > 100


def test_enough_masks_are_never_shared_by_two_people(people: Path, lesions: Path) -> None:
    source = find_source(people, whole_heads=False, lesions=lesions)
    assert source is not None
    pools = [set(source.masks(number)) for number in range(1, 7)]
    assert pools[0] == pools[3]
    assert not (pools[0] & pools[1]) | (pools[1] & pools[2])


def test_pretraining_makes_such_heads_and_splits_them_by_person(people: Path, tmp_path: Path) -> None:
    settings = {"subjects": 6, "spacing": 6.0, "label_maps": str(people)}
    data = pretraining_data("embedded", tmp_path, embedded=settings)
    parts = [{entry["subject"] for entry in data[part]} for part in ("training", "validation", "test")]
    assert parts == [{"sub-001", "sub-004"}, {"sub-002", "sub-005"}, {"sub-003", "sub-006"}]
    assert Path(data["dataset_dir"]).name.startswith("cohort-n6-s0-6mm-")


@pytest.fixture(scope="module")
def ixi(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scanned") / "ixi"
    return make_ixi_cohort(out, guys=3, hh=2, iop=1, seed=1, spacing=SPACING, label_maps=people, progress=False)


def test_scanned_heads_have_images_and_the_shares_that_they_were_made_of(ixi: Path) -> None:
    names = ixi_subjects(ixi)
    assert len(names) == 6
    for entry in find_ixi(ixi, "T1w"):
        image = np.asarray(nib.load(entry["image"]).dataobj).astype(float)
        grey, white, fluid = (np.asarray(nib.load(path).dataobj).astype(float) for path in entry["label"])
        means = [image[share > 0.9].mean() for share in (fluid, grey, white)]
        assert means[0] < means[1] < means[2]
        assert image[image > 4 * means[2] / 3].size > 100  # fat
    t2 = find_ixi(ixi, "T2w")[0]
    image, fluid = (np.asarray(nib.load(path).dataobj).astype(float) for path in (t2["image"], t2["label"][2]))
    assert image[fluid > 0.9].mean() > 2 * image[(fluid < 0.1) & (image > 50)].mean()


def test_no_person_is_on_two_sides_of_a_split_over_sites(ixi: Path) -> None:
    people = read_people(ixi)
    assert set(people) == set(ixi_subjects(ixi))
    assert {people[name] for name in people if "Guys" not in name} == {"person_02"}
    split = split_ixi(list(people), people=people)
    parts = [{people[name] for name in split[part]} for part in PARTS]
    assert parts == [{"person_00"}, {"person_01"}, {"person_02"}]
    assert len(split["test"]) == 4
    elsewhere = {**people, **{name: "person_00" for name in people if "HH" in name}}
    assert not any("HH" in name for name in split_ixi(list(people), people=elsewhere)["test"])


def test_tasks_split_scanned_heads_by_person(people: Path, lesions: Path, tmp_path: Path) -> None:
    settings = {"subjects": 6, "spacing": 6.0, "label_maps": str(people), "lesions": str(lesions)}
    data = downstream_data("arc", "embedded", tmp_path, "T2w", embedded=settings)
    parts = [[entry["subject"] for entry in data[part]] for part in PARTS]
    assert parts == [["sub-M2001", "sub-M2004"], ["sub-M2002", "sub-M2005"], ["sub-M2003", "sub-M2006"]]
    for entry in data["training"]:
        image, mask = (np.asarray(nib.load(entry[key]).dataobj).astype(float) for key in ("image", "label"))
        assert mask.sum() > 5
        assert image[mask > 0].mean() > 1.2 * image[image > image.mean()].mean()
    with pytest.raises(InputError, match="label_maps without lesions: give a folder"):
        make_arc_cohort(tmp_path / "arc", 1, label_maps=people, progress=False)


def test_real_label_maps_make_plausible_brains(tmp_path: Path) -> None:
    """For whoever has SynthSeg's training label maps, or others: set SEQINV_LABEL_MAPS to their folder."""
    folder = os.environ.get("SEQINV_LABEL_MAPS")
    if not folder:
        pytest.skip("SEQINV_LABEL_MAPS names no folder of label maps")
    out = make_qmri_cohort(tmp_path / "real", 2, 0, 2.0, label_maps=folder, progress=False)
    for subject in ("sub-001", "sub-002"):
        seg = read(out, subject, "dseg")
        litres = [(seg == label).sum() * 2.0**3 / 1e6 for label in range(1, 5)]
        assert 0.4 < litres[0] < 1.0
        assert 0.3 < litres[1] < 0.8
        assert 0.1 < litres[2] < 0.8
        assert 0.02 < litres[3] < 0.06
        r1 = read(out, subject, "R1map")
        assert np.median(r1[seg == 3]) < np.median(r1[seg == 1]) < np.median(r1[seg == 4]) < np.median(r1[seg == 2])
    assert BRAIN[CODES["grey"]]
