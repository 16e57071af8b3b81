from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from scripts.cohort.label_lesion import draw_lesion_masks, find_lesion_masks, to_mni
from scripts.cohort.label_maps import find_label_maps, read_label_map
from scripts.cohort.label_outer import split_soft_tissue
from scripts.cohort.label_tissues import BRAIN, CODES, SEGMENTS, TISSUES, draw_tissues, to_tissues
from scripts.cohort.tissue_values import MAPS, TABLE
from scripts.errors import InputError
from tests.cohort.head_labels import STEP, head_labels, write_label_map, write_lesions


def test_every_id_has_one_tissue_and_parcels_are_cortex_and_white_matter() -> None:
    ids = [number for tissue in TISSUES for number in tissue.ids]
    assert len(ids) == len(set(ids))
    labels = np.array([0, 2, 41, 1035, 2001, 12110, 3005, 5001, 24, 77, 506, 499, -3, 99999])
    tissues, unknown = to_tissues(labels)
    names = ["grey", "grey", "grey", "white", "white", "csf", "hyperintensity", "vitreous"]
    assert [tissues[0], *tissues[-3:]] == [0, 0, 0, 0]
    assert tissues[1:-3].tolist() == [CODES[name] for name in ("white", "white", *names)]
    assert unknown == 3


def test_people_differ_around_the_means_of_the_tables() -> None:
    drawn = np.stack([draw_tissues(np.random.default_rng(seed))[0] for seed in range(200)])
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 1:, :4] > 0).all()
    for name in ("grey", "white", "csf", "caudate", "cavity"):
        mean, between, _ = np.array(TABLE[name]).T
        found = drawn[:, CODES[name]]
        np.testing.assert_allclose(found.mean(0), mean, atol=(0.45 * between).max(), rtol=0.02)
        np.testing.assert_allclose(found.std(0), 1.5 * between, rtol=0.25)
    r1, r2 = (drawn[..., MAPS.index(name)] for name in ("R1", "R2"))
    order = [CODES[name] for name in ("csf", "grey", "thalamus", "white", "fat")]
    assert (np.diff(r1[:, order], axis=1) > 0).mean() > 0.99
    assert (r2[:, CODES["bone"]] > 2 * r2[:, CODES["muscle"]]).all()
    assert (drawn[:, CODES["bone"], 0] < 20).all()


@pytest.mark.parametrize("axes", ["LIA", "RAS", "PSR"])
def test_a_label_map_is_brought_to_ras_and_cut_to_the_head(tmp_path: Path, axes: str) -> None:
    labels = head_labels()
    head = read_label_map(write_label_map(tmp_path / "a.nii.gz", labels, axes=axes), "a")
    assert head.spacing == (STEP, STEP, STEP)
    assert head.is_whole
    found = np.argwhere(labels)
    low, high = found.min(0), found.max(0) + 1
    expected, _ = to_tissues(labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    canal = head.tissues == CODES["canal"]
    assert (head.tissues == expected)[~canal].all()
    assert (expected[canal] == CODES["csf"]).all()
    assert canal.any()
    assert np.argwhere(canal)[:, 2].max() < np.argwhere(head.tissues == CODES["brainstem"])[:, 2].min()


def test_specks_are_mended_and_cavities_kept(tmp_path: Path) -> None:
    clean = head_labels()
    specked = clean.copy()
    specked[30, 30, 34] = 0  # a hole in white matter
    specked[1, 1, 1] = 24  # fluid in the air
    both = [read_label_map(write_label_map(tmp_path / f"{i}.nii", x), "x") for i, x in enumerate((clean, specked))]
    assert clean[30, 30, 34] == 41
    difference = both[0].tissues != both[1].tissues
    assert both[0].tissues.shape == both[1].tissues.shape
    assert difference.sum() <= 1  # filled by its neighbour with the largest code
    assert (both[1].tissues[difference] != 0).all()
    assert (both[1].tissues == 0)[20:28, 50:, :].any()  # the nose stays air


def test_a_brain_without_surroundings_gets_the_fluid_of_its_sulci(tmp_path: Path) -> None:
    labels = head_labels(whole=False)
    labels[labels == 24] = 0
    head = read_label_map(write_label_map(tmp_path / "aseg.nii.gz", labels), "aseg")
    assert not head.is_whole
    assert not (head.tissues[~BRAIN[head.tissues]] != 0).any()
    brain = BRAIN[head.tissues]
    shell = brain & (head.tissues == CODES["csf"])
    assert shell.sum() > 500
    assert (head.tissues == CODES["grey"]).sum() == np.isin(labels, (3, 42)).sum()


def test_files_of_freesurfer_are_read(tmp_path: Path) -> None:
    labels = head_labels(whole=False)
    nib.save(nib.MGHImage(labels.astype(np.int32), np.diag([STEP, STEP, STEP, 1.0])), tmp_path / "aparc+aseg.mgz")
    found = find_label_maps(tmp_path)
    assert list(found) == ["aparc+aseg"]
    head = read_label_map(found["aparc+aseg"], "aparc+aseg")
    assert set(np.unique(SEGMENTS[head.tissues])) == {0, 1, 2, 3, 4}


def test_what_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"label_maps .*none is no folder"):
        find_label_maps(tmp_path / "none")
    with pytest.raises(InputError, match="holds no label map"):
        find_label_maps(tmp_path)
    labels = head_labels()
    odd = write_label_map(tmp_path / "odd.nii.gz", np.where(labels > 0, 700, 0).astype(np.int16))
    with pytest.raises(InputError, match=r"odd.nii.gz has unknown labels in \d+ of \d+ voxels.*FreeSurfer"):
        read_label_map(odd, "odd")
    outer = write_label_map(tmp_path / "outer.nii.gz", np.where(labels > 0, 507, 0).astype(np.int16))
    with pytest.raises(InputError, match="labels outside the brain only"):
        read_label_map(outer, "outer")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken.nii.gz cannot be read as an image"):
        read_label_map(broken, "broken")
    (tmp_path / "odd.nii").write_bytes(b"")
    with pytest.raises(InputError, match="are both of odd"):
        find_label_maps(tmp_path)


def test_fat_lies_under_the_skin_and_behind_the_eyes(tmp_path: Path) -> None:
    head = read_label_map(write_label_map(tmp_path / "a.nii.gz", head_labels()), "a")
    split = split_soft_tissue(head, np.random.default_rng(0))
    changed = split != head.tissues
    assert (split[changed] == CODES["fat"]).all()
    assert np.isin(head.tissues[changed], [CODES["muscle"], CODES["skin"]]).all()
    orbit = np.argwhere(head.tissues == CODES["vitreous"]).mean(0)
    assert 0.1 < (split == CODES["fat"]).sum() / (head.tissues == CODES["muscle"]).sum() < 0.9
    right = int(np.argwhere(head.tissues == CODES["vitreous"])[:, 0].max())
    soft = np.argwhere(head.tissues == CODES["muscle"])
    close = soft[np.linalg.norm((soft - (right - 3, orbit[1] - 2, orbit[2])) * STEP, axis=1) < 15.0]
    assert all(split[tuple(place)] == CODES["fat"] for place in close)


def test_the_cerebrum_of_a_tilted_head_fits_that_of_mni_space(tmp_path: Path) -> None:
    head = read_label_map(write_label_map(tmp_path / "a.nii.gz", head_labels()), "a")
    matrix = to_mni(head)
    places = np.argwhere(np.isin(head.tissues, [CODES["grey"], CODES["white"]]))
    mni = places @ matrix[:, :3].T + matrix[:, 3]
    np.testing.assert_allclose(mni.min(0), (-71, -106, -51), atol=1e-3)
    np.testing.assert_allclose(mni.max(0), (71, 73, 82), atol=1e-3)
    cerebellum = np.argwhere(head.tissues == CODES["cerebellar_grey"]) @ matrix[:, :3].T + matrix[:, 3]
    assert cerebellum[:, 1].mean() < -40
    assert cerebellum[:, 2].mean() < -30


def test_masks_are_drawn_by_volume_and_maps_that_are_none_are_passed_over(tmp_path: Path) -> None:
    masks = find_lesion_masks(write_lesions(tmp_path / "lesions"))
    assert len(masks) == 5
    drawn = draw_lesion_masks(masks, np.random.default_rng(0))
    assert len(drawn) == 4
    volumes = [mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000 for mask, affine in drawn]
    assert len(set(volumes)) == 4
    centre = np.argwhere(drawn[0][0]).mean(0)
    np.testing.assert_allclose(drawn[0][1][:3, :3] @ centre + drawn[0][1][:3, 3], (-40, 0, 20), atol=1.0)
    with pytest.raises(InputError, match="hold no lesion"):
        draw_lesion_masks([path for path in masks if "mean" in path.name], np.random.default_rng(0))
