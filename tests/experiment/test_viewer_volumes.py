"""Volumes for the viewer: what is embedded is what the evaluation left, where it was."""

from __future__ import annotations

import base64
import dataclasses
import gzip
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.errors import InputError
from scripts.experiment.pages import viewer_volumes
from scripts.experiment.pages.viewer import niivue_source, viewer_content
from scripts.experiment.pages.viewer_volumes import differences, load_case, pack
from scripts.experiment.results.collect import Results
from scripts.tasks import TASKS

OBLIQUE = np.array([[0.0, -1.5, 0.2, 40.0], [1.4, 0.0, 0.0, -30.0], [0.1, 0.0, 1.6, 7.0], [0.0, 0.0, 0.0, 1.0]])


def unpacked(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def ball(shape: tuple[int, int, int], centre: tuple[float, float, float], radius: float) -> np.ndarray:
    place = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return np.sqrt(np.square(place).sum(0)) < radius


def written(folder: Path, affine: np.ndarray, **volumes: np.ndarray) -> dict[str, str]:
    paths = {}
    for what, volume in volumes.items():
        paths[what] = str(folder / f"{what}.nii.gz")
        nib.save(nib.Nifti1Image(volume, affine), paths[what])
    return paths


def centre_of_mass(volume: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ np.mean(np.nonzero(volume), axis=1) + affine[:3, 3]


@pytest.fixture
def head(tmp_path: Path) -> dict[str, str]:
    """A head off the middle of a field of 48 x 40 x 44 voxels with a lesion; its prediction is another ball."""
    shape = (48, 40, 44)
    image = np.where(ball(shape, (22, 18, 25), 14), 1.0, -1.0).astype(np.float32)
    return written(
        tmp_path,
        OBLIQUE,
        image=image,
        truth=ball(shape, (24, 16, 27), 6).astype(np.uint8),
        prediction=ball(shape, (22, 16, 27), 5).astype(np.uint8) * 2,
    )


def test_a_case_is_cut_to_the_head_and_stays_where_it_is(head: dict[str, str]) -> None:
    volumes, affine, note = load_case(head, labels=True)
    assert note == ""
    assert volumes["image"].shape == (33, 33, 33)  # 27 voxels of head and 3 on each side
    for what in ("truth", "prediction"):
        whole = nib.load(head[what]).get_fdata()
        np.testing.assert_array_equal(np.unique(volumes[what]), np.unique(whole))
        assert np.count_nonzero(volumes[what]) == np.count_nonzero(whole)
        np.testing.assert_allclose(centre_of_mass(volumes[what], affine), centre_of_mass(whole, OBLIQUE), atol=1e-6)


def test_a_large_case_is_shown_on_blocks(head: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    fine, fine_affine, _ = load_case(head, labels=True)
    monkeypatch.setattr(viewer_volumes, "_MOST_VOXELS", 33**3 // 8 + 600)
    coarse, affine, note = load_case(head, labels=True)
    assert note == "shown on blocks of 2 x 2 x 2 voxels of 1.4 mm"
    assert coarse["image"].shape == (17, 17, 17)
    expected = np.zeros((16, 16, 16))
    for i, j, k in np.ndindex(expected.shape):
        block = fine["prediction"][2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        counted = Counter(block.ravel().tolist())
        expected[i, j, k] = min(counted, key=lambda value: (-counted[value], value))
        assert coarse["image"][i, j, k] == pytest.approx(
            fine["image"][2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2].mean()
        )
    np.testing.assert_array_equal(coarse["prediction"][:16, :16, :16], expected)
    block = np.array(list(np.ndindex(2, 2, 2))) + 2 * np.array([3, 5, 7])  # a block's centre is that of its voxels
    centre = (fine_affine[:3, :3] @ block.T).mean(1) + fine_affine[:3, 3]
    np.testing.assert_allclose((affine @ [3, 5, 7, 1])[:3], centre, atol=1e-6)


def test_an_image_survives_its_256_levels() -> None:
    image = np.random.default_rng(0).normal(3.0, 2.0, (9, 8, 7))
    back = unpacked(pack(image, OBLIQUE, (-1.0, 7.0)).base64)
    np.testing.assert_allclose(back.get_fdata(), np.clip(image, -1, 7), atol=0.5 * 8 / 255 + 1e-6)
    np.testing.assert_allclose(back.affine, OBLIQUE, atol=1e-5)
    assert back.get_data_dtype() == np.uint8
    assert back.header.get_xyzt_units()[0] == "mm"


def test_a_flat_image_is_packed() -> None:
    assert np.all(unpacked(pack(np.zeros((3, 3, 3)), np.eye(4), (0.0, 0.0)).base64).get_fdata() == 0)


def test_the_same_volume_has_the_same_key() -> None:
    labels = np.random.default_rng(1).integers(0, 4, (6, 6, 6))
    assert pack(labels, np.eye(4)) == pack(labels.copy(), np.eye(4))
    assert pack(labels, np.eye(4)).key != pack(labels + 1, np.eye(4)).key


def test_differences_are_where_labels_differ() -> None:
    found = differences(np.array([[[0, 1, 2, 3]]]), np.array([[[0, 2, 2, 0]]]))
    assert found.tolist() == [[[0, 1, 0, 1]]]


def test_the_median_of_each_task_comes_first(results: Results) -> None:
    cases = viewer_content(results, budget=0)["cases"]
    assert [(case["task"], case["rank"], case["variant"]) for case in cases] == [
        (task, "median", "seqinv") for task in TASKS
    ]


def test_other_cases_follow_within_the_budget(results: Results) -> None:
    full = viewer_content(results)
    assert len(full["cases"]) == 3 * 4  # three of seqinv and the median of base
    assert full["lost"] == 0
    for case in full["cases"]:
        assert {layer["volume"] for layer in case["layers"]} <= set(full["volumes"])
    medians = sum(len(text) for text in viewer_content(results, budget=0)["volumes"].values())
    everything = sum(len(text) for text in full["volumes"].values())
    budget = (medians + everything) // 2
    some = viewer_content(results, budget=budget)
    assert 3 < len(some["cases"]) < 12
    assert medians < sum(len(text) for text in some["volumes"].values()) <= budget


def test_what_is_embedded_is_what_was_kept(results: Results) -> None:
    content = viewer_content(results)
    row = results.cases.query("task == 'ixi_seg' and variant == 'seqinv' and rank == 'median'").iloc[0]
    case = next(case for case in content["cases"] if case["task"] == "ixi_seg")
    layers = {layer["name"]: layer for layer in case["layers"]}
    assert list(layers) == ["image", "truth", "prediction", "differences"]
    for what in ("truth", "prediction"):
        shown, kept = unpacked(content["volumes"][layers[what]["volume"]]), nib.load(row[what])
        assert [entry["name"] for entry in layers[what]["classes"]] == ["grey matter", "white matter", "CSF"]
        assert [entry["value"] for entry in layers[what]["classes"]] == [1, 2, 3]
        for value in (1, 2, 3):
            ours, theirs = shown.get_fdata() == value, kept.get_fdata() == value
            place = np.linalg.inv(shown.affine) @ kept.affine @ [*np.argwhere(theirs)[0], 1]
            assert ours[tuple(np.rint(place[:3]).astype(int))]
            assert ours.sum() == theirs.sum()
    at = np.linalg.inv(nib.load(row["truth"]).affine) @ [*case["mm"], 1]
    assert nib.load(row["truth"]).get_fdata()[tuple(np.rint(at[:3]).astype(int))] > 0
    assert case["value"] == row["value"]


def test_denoising_compares_three_images_in_one_window(results: Results) -> None:
    content = viewer_content(results)
    case = next(case for case in content["cases"] if case["task"] == "ixi_denoise")
    assert [layer["name"] for layer in case["layers"]] == ["noisy", "denoised", "clean"]
    noisy, denoised, clean = (unpacked(content["volumes"][layer["volume"]]).get_fdata() for layer in case["layers"])
    assert 0.15 < np.std(noisy - clean) < 0.2  # 0.2, less what lies beyond the levels of the clean image
    assert np.std(denoised - clean) < 0.6 * np.std(noisy - clean)
    assert clean.min() <= case["window"][0] < case["window"][1] <= clean.max()


def test_a_run_without_seqinv_and_t1w_is_shown(results: Results) -> None:
    rest = results.cases.query("variant == 'base' and task == 'arc_lesion'").assign(modality="FLAIR", fraction=0.01)
    content = viewer_content(dataclasses.replace(results, cases=rest))
    assert {(case["variant"], case["modality"]) for case in content["cases"]} == {("base", "FLAIR")}


def test_cases_whose_volumes_are_gone_are_counted(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    row = results.cases.query("task == 'arc_lesion' and variant == 'seqinv' and rank == 'median'").iloc[0]
    Path(row["truth"]).unlink()
    content = viewer_content(results)
    assert content["lost"] == 1
    assert ("arc_lesion", "seqinv", "median") not in [
        (case["task"], case["variant"], case["rank"]) for case in content["cases"]
    ]
    assert "is gone: evaluate its run again" in caplog.text


def test_no_cases_no_content(results: Results) -> None:
    assert viewer_content(dataclasses.replace(results, cases=pd.DataFrame())) == {"cases": [], "volumes": {}, "lost": 0}


def test_volumes_of_two_grids_are_refused(head: dict[str, str], tmp_path: Path) -> None:
    other = written(tmp_path, OBLIQUE, truth=np.zeros((48, 40, 43), np.uint8))
    with pytest.raises(InputError, match="on another grid than"):
        load_case({**head, **other}, labels=True)


def test_a_damaged_volume_is_refused(head: dict[str, str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no volume")
    with pytest.raises(InputError, match="is no NIfTI file: evaluate its run again"):
        load_case({**head, "truth": str(bad)}, labels=True)


def test_the_viewer_comes_with_nilearn() -> None:
    source = niivue_source()
    assert len(source) > 1_000_000
    assert "</script" not in source
    assert "<!--" not in source
