"""Labels beside stored maps, regions drawn around them, and regions cut on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader

from scripts.data.labels import LabelledRegionDataset, attach_labels
from scripts.data.qmri import find_subjects
from scripts.data.regions import RegionDataset, StepSampler
from scripts.data.resident import ResidentRegions
from scripts.data.store import prepare_store
from scripts.errors import InputError


@pytest.fixture
def labelled(cohort: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """The four subjects, with label 1 where PD is above 75 and a single voxel of label 5."""
    stored = prepare_store(find_subjects(cohort), tmp_path / "cache", progress=False)
    for entry in stored:
        image = nib.load(entry["pd"])
        labels = (np.asarray(image.dataobj) > 75).astype(np.uint8)
        labels[10, 12, 11] = 5
        path = Path(str(entry["pd"]).replace("_PDmap", "_dseg"))
        nib.save(nib.Nifti1Image(labels, image.affine), path)
    return attach_labels(stored)


def test_labels_lie_on_the_maps(labelled: list[dict[str, Any]]) -> None:
    dataset = LabelledRegionDataset(labelled, 9, 3, seed=2)
    for index in range(12):
        item = dataset[index]
        assert item["labels"].shape == (1, 9, 9, 9)
        known = item["labels"][0] != 5
        inside = item["maps"][0] > 0
        bright = (item["maps"][0].float() - 75).abs() > 0.1  # away from where half precision rounds over the edge
        both = known & inside & bright
        assert torch.equal((item["maps"][0] > 75)[both], (item["labels"][0] == 1)[both])


def test_regions_are_drawn_around_a_label(labelled: list[dict[str, Any]]) -> None:
    always = LabelledRegionDataset(labelled, 9, 2, sampling={5: 1.0})
    always.prepare("labels")
    assert all((always[index]["labels"] == 5).any() for index in range(20))
    half = LabelledRegionDataset(labelled, 9, 2, sampling={"5": 0.5})
    some = sum(bool((half[index]["labels"] == 5).any()) for index in range(60))
    assert 20 < some < 55
    absent = LabelledRegionDataset(labelled, 9, 2, sampling={7: 1.0})
    assert absent[0]["labels"].shape == (1, 9, 9, 9)
    with pytest.raises(InputError, match="sum to at most 1"):
        LabelledRegionDataset(labelled, 9, 2, sampling={1: 0.7, 2: 0.7})


def test_without_labels_drawn_around_it_draws_what_plain_regions_draw(labelled: list[dict[str, Any]]) -> None:
    plain, ours = (
        RegionDataset(labelled, 9, 2, seed=4),
        LabelledRegionDataset(labelled, 9, 2, seed=4, sampling={1: 0.0}),
    )
    assert torch.equal(plain[3]["maps"], RegionDataset(labelled, 9, 2, seed=4)[3]["maps"])
    assert plain[3]["subject"] == ours[3]["subject"]


@pytest.mark.parametrize("side", [9, 40])
def test_regions_cut_on_the_device_are_those_that_are_read(labelled: list[dict[str, Any]], side: int) -> None:
    read = LabelledRegionDataset(labelled, side, 2, seed=1, sampling={5: 0.5})
    named = LabelledRegionDataset(labelled, side, 2, seed=1, sampling={5: 0.5}, resident=True)
    regions = ResidentRegions(side, named.channels)
    batches = DataLoader(named, batch_sampler=StepSampler(2, steps=3), num_workers=0)
    for step, batch in enumerate(batches):
        assert "maps" not in batch
        found = regions(batch, "cpu")
        for slot in range(2):
            item = read[2 * step + slot]
            assert torch.equal(found["maps"][slot], item["maps"])
            assert torch.equal(found["labels"][slot], item["labels"])


def test_what_is_wrong_with_labels_is_told(labelled: list[dict[str, Any]]) -> None:
    path = Path(str(labelled[0]["pd"]).replace("_PDmap", "_dseg"))
    image = nib.load(path)
    for change, message in _CHANGES:
        change(path, image)
        with pytest.raises(InputError, match=message) as caught:
            attach_labels(labelled)
        assert path.name in str(caught.value)


def _save(path: Path, volume: np.ndarray, affine: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(volume, affine), path)


_CHANGES: tuple[tuple[Callable[[Path, Any], Any], str], ...] = (
    (lambda path, image: _save(path, np.full(image.shape, 0.5, np.float32), image.affine), "whole numbers"),
    (lambda path, image: _save(path, np.zeros((4, 4, 4), np.uint8), image.affine), "shape"),
    (lambda path, _: path.unlink(), "is missing"),
)
