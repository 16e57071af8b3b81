from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from scripts.experiment.figures.cases import case_drawing, choose_cases, load_case, slice_with_most
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError

TASKS = ("ixi_seg", "arc_lesion", "ixi_denoise")


def shown(figure: object, row: int, column: int, layer: int = 0) -> np.ndarray:
    panels = [axis for axis in figure.axes if axis.get_label() != "<colorbar>"]
    return np.asarray(panels[4 * row + column].images[layer].get_array())


def volume(results: Results, task: str, rank: str, what: str) -> np.ndarray:
    cases = results.cases
    row = cases[(cases["task"] == task) & (cases["variant"] == "seqinv") & (cases["rank"] == rank)].iloc[0]
    return np.asarray(nib.load(row[what]).dataobj)


def test_chooses_seqinv_all_labels_first_modality_first_seed(results: Results) -> None:
    own = results.cases[results.cases["task"] == "ixi_seg"]
    others = [
        own.assign(modality="PDw"),
        own.assign(fraction=0.01),
        own.assign(seed=1),
        own.assign(variant="scratch"),
    ]
    shuffled = pd.concat([*others, own], ignore_index=True).sample(frac=1, random_state=0)
    chosen = choose_cases(shuffled, "ixi_seg")
    keys = chosen[["variant", "fraction", "modality", "seed", "rank"]].to_records(index=False).tolist()
    assert keys == [("seqinv", 1.0, "T1w", 0, rank) for rank in ("best", "median", "worst")]
    without = shuffled[shuffled["variant"] != "seqinv"]
    assert set(choose_cases(without, "ixi_seg")["variant"]) == {"base"}


def test_no_case_of_a_task(results: Results) -> None:
    other = results.cases[results.cases["task"] != "ixi_seg"]
    for cases in (other, pd.DataFrame()):
        with pytest.raises(NothingFoundError, match="no case of ixi_seg"):
            choose_cases(cases, "ixi_seg")


def test_axes_run_to_the_right_front_and_top_however_the_file_is_stored(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    upright = nib.Nifti1Image(array, affine)
    # the same image with left and right, and all axes, exchanged in memory
    turned = upright.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    assert turned.shape != upright.shape
    row = {"subject": "one"}
    for what in ("image", "truth", "prediction"):
        row[what] = str(tmp_path / f"{what}.nii.gz")
        nib.save(turned, row[what])
    volumes, spacing = load_case(row)
    assert spacing == (1.0, 2.0, 3.0)
    assert all(np.array_equal(volumes[what], array) for what in volumes)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_with_most(axis: int) -> None:
    mask = np.random.default_rng(axis).random((7, 8, 9)) > 0.7
    found = slice_with_most(mask, axis)
    counts = [np.take(mask, at, axis).sum() for at in range(mask.shape[axis])]
    assert counts[found] == max(counts)
    assert slice_with_most(np.zeros((7, 8, 9), bool), axis) == (3, 4, 4)[axis]


def test_tissue_is_coloured_beside_its_truth(results: Results) -> None:
    drawing = case_drawing(results, "ixi_seg")
    assert [axis.get_title() for axis in drawing.figure.axes[:4]] == [
        "axial, truth",
        "axial, prediction",
        "coronal, truth",
        "coronal, prediction",
    ]
    assert "SeqInv on T1w, trained with 100 % of the labels" in drawing.caption
    assert "grey matter red, white matter blue, CSF yellow" in drawing.caption
    for row, rank in enumerate(("best", "median", "worst")):
        image, truth, predicted = (volume(results, "ixi_seg", rank, what) for what in ("image", "truth", "prediction"))
        level, depth = slice_with_most(truth > 0, 2), slice_with_most(truth > 0, 1)
        assert np.array_equal(shown(drawing.figure, row, 0), image[:, :, level].T)
        assert np.array_equal(shown(drawing.figure, row, 0, 1), truth[:, :, level].T)
        assert np.array_equal(shown(drawing.figure, row, 1, 1), predicted[:, :, level].T)
        assert np.array_equal(shown(drawing.figure, row, 2), image[:, depth].T)
        assert np.array_equal(shown(drawing.figure, row, 3, 1), predicted[:, depth].T)


def test_scores_stand_beside_the_rows(results: Results) -> None:
    told = [axis.get_ylabel() for axis in case_drawing(results, "arc_lesion").figure.axes[::4]]
    assert told == [
        "best: DSC 80.0 %\nIXI000 (Guys)",
        "median: DSC 60.0 %\nIXI001 (Guys)",
        "worst: DSC 30.0 %\nIXI002 (Guys)",
    ]
    assert case_drawing(results, "ixi_denoise").figure.axes[0].get_ylabel().startswith("best: PSNR 0.80 dB")


def test_lesions_are_outlined_where_they_end(results: Results) -> None:
    axis = case_drawing(results, "arc_lesion").figure.axes[1]
    truth, predicted = (volume(results, "arc_lesion", "best", what) for what in ("truth", "prediction"))
    level = slice_with_most(truth > 0, 2)
    assert len(axis.collections) == 2
    for outline, labels in zip(axis.collections, (truth, predicted), strict=True):
        corners = outline.get_paths()[0].vertices
        inside = np.argwhere(labels[:, :, level])
        assert corners.min(0) == pytest.approx(inside.min(0) - 0.5)
        assert corners.max(0) == pytest.approx(inside.max(0) + 0.5)


def test_a_prediction_without_lesion_has_no_outline(results: Results) -> None:
    row = choose_cases(results.cases, "arc_lesion").iloc[0]
    image = nib.load(row["prediction"])
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), row["prediction"])
    figure = case_drawing(results, "arc_lesion").figure
    assert [len(axis.collections) for axis in figure.axes[:8]] == [0, 1, 0, 1, 0, 2, 0, 2]


def write_head_in_noise(path: str) -> int:
    """Overwrite an image with a spinning top in positive noise, and return the slice where the top is widest."""
    image = nib.load(path)
    i, j, k = np.indices(image.shape)
    widest = image.shape[2] // 3
    top = np.hypot(i - image.shape[0] / 2, j - image.shape[1] / 2) < widest - np.abs(k - widest)
    noise = np.random.default_rng(0).uniform(0.01, 0.2, image.shape)
    # air is above 0 everywhere but in that slice, which so is not the one with most voxels above 0
    noise[:, :, widest] -= 0.2
    nib.save(nib.Nifti1Image((noise + 2 * top).astype(np.float32), image.affine), path)
    return widest


def test_denoising_shows_the_error_about_zero(results: Results) -> None:
    row = choose_cases(results.cases, "ixi_denoise").set_index("rank").loc["worst"]
    level = write_head_in_noise(row["truth"])
    figure = case_drawing(results, "ixi_denoise").figure
    noisy, clean, denoised = (
        volume(results, "ixi_denoise", "worst", what) for what in ("image", "truth", "prediction")
    )
    assert slice_with_most(clean > 0, 2) != level
    planes = [volume[:, :, level].T for volume in (noisy, denoised, clean, denoised - clean)]
    for column, plane in enumerate(planes):
        assert np.array_equal(shown(figure, 2, column), plane)
    error = figure.axes[3].images[0].norm
    assert error.vmin == -error.vmax
    windows = {(axis.images[0].norm.vmin, axis.images[0].norm.vmax) for axis in figure.axes[:3]}
    assert len(windows) == 1


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_case_that_cannot_be_read_is_left_out(
    results: Results, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(choose_cases(results.cases, "ixi_seg").loc[1, "truth"])
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:60])
    with caplog.at_level(logging.WARNING):
        figure = case_drawing(results, "ixi_seg").figure
    assert [axis.get_ylabel().split(":")[0] for axis in figure.axes[::4]] == ["best", "worst"]
    (message,) = caplog.messages
    assert f"{path.name} of IXI001 cannot be read" in message


@pytest.mark.parametrize("task", TASKS)
def test_all_volumes_gone(results: Results, task: str) -> None:
    cases = results.cases.assign(image="/nowhere/image.nii.gz")
    with pytest.raises(NothingFoundError, match=f"cases of {task} are gone"):
        case_drawing(replace(results, cases=cases), task)
