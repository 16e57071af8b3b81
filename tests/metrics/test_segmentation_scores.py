from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage

from scripts.errors import InputError
from scripts.metrics.segmentation_scores import SEGMENTATION_METRICS, segmentation_scores

CLASSES = {1: "grey", 2: "white"}
SPACING = (0.5, 2.0, 1.25)


def by_name(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    return {row["metric"]: row["value"] for row in rows if row["class"] == name}


def score(prediction: Any, truth: Any, spacing: Any = SPACING) -> dict[str, float]:
    """Scores of labels that know one class only."""
    return by_name(segmentation_scores(prediction, truth, classes={1: "it"}, spacing=spacing), "it")


def box(first: tuple[int, int, int], size: tuple[int, int, int] = (6, 6, 6), side: int = 20) -> NDArray[np.uint8]:
    labels = np.zeros((side, side, side), np.uint8)
    labels[tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))] = 1
    return labels


def blobs(seed: int, shape: tuple[int, int, int], above: float = 0.3) -> NDArray[np.uint8]:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return np.asarray(field > above * field.std(), dtype=np.uint8)


def naive_hausdorff95(a: NDArray[np.uint8], b: NDArray[np.uint8], spacing: tuple[float, ...]) -> float:
    """Two loops over surface voxels; a voxel is surface if one of its six neighbours is outside."""

    def surface(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
        padded = np.pad(mask, 1)
        found = []
        for i, j, k in np.argwhere(padded):
            steps = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
            if any(padded[i + x, j + y, k + z] == 0 for x, y, z in steps):
                found.append([(i - 1) * spacing[0], (j - 1) * spacing[1], (k - 1) * spacing[2]])
        return np.asarray(found)

    ours, theirs = surface(a), surface(b)
    percentiles = []
    for here, there in ((ours, theirs), (theirs, ours)):
        nearest = [min(float(((p - q) ** 2).sum()) ** 0.5 for q in there) for p in here]
        percentiles.append(np.percentile(nearest, 95))
    return max(percentiles)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [1, 3, 5])
def test_shifted_boxes_have_the_dice_and_distance_of_geometry(axis: int, shift: int) -> None:
    moved = [5, 5, 5]
    moved[axis] += shift
    found = score(box((moved[0], moved[1], moved[2])), box((5, 5, 5)))
    assert found["DSC"] == pytest.approx((6 - shift) / 6)
    # the face that was moved away is 36 of the 152 surface voxels, more than 5 %, all of them ``shift`` off
    assert found["HD95"] == pytest.approx(shift * SPACING[axis], rel=1e-6)
    assert found["volume_truth"] == pytest.approx(216 * 0.5 * 2.0 * 1.25 / 1000)
    assert found["volume_prediction"] == pytest.approx(found["volume_truth"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_distance_is_that_of_a_naive_search(seed: int) -> None:
    # blobs touch the image's border, where all beyond is outside
    ours, theirs = blobs(seed, (9, 7, 8)), blobs(seed + 10, (9, 7, 8))
    assert score(ours, theirs)["HD95"] == pytest.approx(naive_hausdorff95(ours, theirs, SPACING), rel=1e-5)


def test_distance_and_dice_are_those_of_a_distance_transform() -> None:
    ours, theirs = blobs(3, (24, 20, 22), 1.0), blobs(4, (24, 20, 22), 1.0)
    edges = [(m > 0) & ~ndimage.binary_erosion(m > 0) for m in (ours, theirs)]
    directed = [
        np.percentile(ndimage.distance_transform_edt(~b, sampling=SPACING)[a], 95) for a, b in (edges, reversed(edges))
    ]
    found = score(ours, theirs)
    assert directed[0] != pytest.approx(directed[1], rel=1e-3)
    assert found["HD95"] == pytest.approx(max(directed), rel=1e-5)
    overlap = 2 * int((ours * theirs).sum()) / (int(ours.sum()) + int(theirs.sum()))
    assert found["DSC"] == pytest.approx(overlap)


def test_scores_obey_their_symmetries() -> None:
    ours, theirs = blobs(5, (12, 11, 10)), blobs(6, (12, 11, 10))
    here, back = score(ours, theirs), score(theirs, ours)
    assert (here["DSC"], here["HD95"]) == (back["DSC"], back["HD95"])
    assert here["volume_prediction"] == back["volume_truth"]
    double = score(ours, theirs, [2 * s for s in SPACING])
    assert double["HD95"] == pytest.approx(2 * here["HD95"], rel=1e-6)
    assert double["volume_truth"] == pytest.approx(8 * here["volume_truth"])
    turned = score(ours.transpose(2, 0, 1), theirs.transpose(2, 0, 1), [SPACING[a] for a in (2, 0, 1)])
    assert turned == pytest.approx(here)
    assert score(ours, ours) == {
        **score(theirs, ours),
        **here,
        "DSC": 1.0,
        "HD95": 0.0,
        "volume_truth": here["volume_prediction"],
    }


def test_air_around_changes_nothing_but_the_penalty() -> None:
    ours, theirs = blobs(7, (8, 8, 8)), blobs(8, (8, 8, 8))
    assert score(np.pad(ours, 5), np.pad(theirs, 5)) == score(ours, theirs)


def test_empty_classes_are_scored_and_counted() -> None:
    nothing, something = np.zeros((20, 20, 20), np.uint8), box((3, 3, 3))
    diagonal = 19 * float(np.hypot(np.hypot(0.5, 2.0), 1.25))
    neither, missed, invented = score(nothing, nothing), score(nothing, something), score(something, nothing)
    assert (neither["DSC"], neither["HD95"]) == (1, 0)
    assert (neither["empty_prediction"], neither["empty_truth"]) == (1, 1)
    for found in (missed, invented):
        assert found["DSC"] == 0
        assert found["HD95"] == pytest.approx(diagonal)
    assert (missed["empty_prediction"], missed["empty_truth"]) == (1, 0)
    assert (invented["empty_prediction"], invented["empty_truth"]) == (0, 1)
    assert (missed["volume_prediction"], invented["volume_truth"]) == (0, 0)


def test_nothing_is_farther_off_than_an_empty_class() -> None:
    corner, opposite = np.zeros((2, 5, 6, 7), np.uint8)
    corner[0, 0, 0] = opposite[-1, -1, -1] = 1
    farthest = score(corner, opposite)["HD95"]
    assert farthest == pytest.approx(score(np.zeros_like(corner), opposite)["HD95"], rel=1e-6)


def test_each_class_is_scored_by_itself_in_the_order_given() -> None:
    truth = box((2, 2, 2)) + 2 * box((10, 10, 10))
    prediction = box((2, 2, 2)) + 2 * box((10, 10, 12))
    rows = segmentation_scores(prediction, truth, classes=CLASSES, spacing=SPACING)
    expected = [(name, metric) for name in CLASSES.values() for metric in SEGMENTATION_METRICS]
    assert [(row["class"], row["metric"]) for row in rows] == expected
    assert all(type(row["value"]) is float for row in rows)
    assert by_name(rows, "grey")["DSC"] == 1
    assert by_name(rows, "white") == pytest.approx(score(box((10, 10, 12)), box((10, 10, 10))))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32], ids=str)
def test_tensors_are_taken_too(dtype: torch.dtype) -> None:
    ours, theirs = blobs(9, (8, 9, 7)), blobs(10, (8, 9, 7))
    expected = score(ours, theirs)
    assert score(torch.from_numpy(ours).to(dtype), MetaTensor(torch.from_numpy(theirs))) == expected


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"prediction": np.zeros((4, 4, 5))}, r"shape \(4, 4, 5\), the truth \(4, 4, 4\): bring both"),
        ({"prediction": np.zeros((4, 4)), "truth": np.zeros((4, 4))}, "bring both"),
        ({"prediction": np.full((4, 4, 4), 3)}, "prediction holds the label values 3: write 0 background, 1 grey, 2"),
        ({"truth": np.full((4, 4, 4), 0.5)}, "truth holds the label values 0.5: write 0"),
        ({"truth": np.full((4, 4, 4), np.nan)}, "truth holds the label values nan"),
        ({"spacing": (1, 1)}, "three sides of a voxel"),
        ({"spacing": (1, 0, 1)}, "above 0 mm"),
        ({"spacing": (1, np.nan, 1)}, "above 0 mm"),
        ({"classes": {}}, "name the label values above 0"),
        ({"classes": {0: "air", 1: "it"}}, "name the label values above 0"),
    ],
)
def test_bad_input_is_told_in_a_line(changed: dict[str, Any], match: str) -> None:
    given = {"prediction": np.zeros((4, 4, 4)), "truth": np.zeros((4, 4, 4)), "classes": CLASSES, "spacing": SPACING}
    given |= changed
    with pytest.raises(InputError, match=match) as caught:
        segmentation_scores(given.pop("prediction"), given.pop("truth"), **given)
    assert "\n" not in str(caught.value)
