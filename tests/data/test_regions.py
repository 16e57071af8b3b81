from __future__ import annotations

import logging
import os
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader

from scripts.data.qmri import find_subjects, load_maps
from scripts.data.regions import RegionDataset, StepSampler
from scripts.data.store import prepare_store
from scripts.data.store_read import read_store_header
from scripts.errors import InputError


@pytest.fixture
def stored(cohort, tmp_path):
    return prepare_store(find_subjects(cohort), tmp_path / "cache", progress=False)


def same(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, second[key], rtol=0, atol=0)
        else:
            assert value == second[key]


def test_items_are_regions_of_the_scans_they_name(stored):
    dataset = RegionDataset(stored, region_size=9, batch_size=3, seed=5)
    volumes = {entry["subject"]: load_maps(entry)[0] for entry in stored}
    for index in range(30):
        item = dataset[index]
        assert (item["step"], item["slot"]) == divmod(index, 3)
        assert item["start"].dtype == torch.int64
        assert item["maps"].dtype == torch.float16
        box = tuple(slice(s, s + 9) for s in item["start"].tolist())
        expected = volumes[item["subject"]][(slice(0, 4), *box)]
        np.testing.assert_allclose(item["maps"].numpy(), expected, rtol=2**-11)
        assert item["maps"].numpy()[0].any()


def test_subjects_of_a_step_differ_and_all_come_equally_often(stored):
    dataset = RegionDataset(stored, region_size=4, batch_size=2, seed=1)
    n = 300
    drawn = [[dataset[step * 2 + slot]["subject"] for slot in range(2)] for step in range(n)]
    assert all(a != b for a, b in drawn)
    for slot in range(2):  # each of four subjects with probability 1/4: within five standard deviations
        counts = [sum(pair[slot] == name for pair in drawn) for name in dataset.subjects]
        assert np.abs(np.array(counts) - n / 4).max() < 5 * np.sqrt(n * 3 / 16)


def test_regions_depend_on_seed_step_and_slot_and_nothing_else(stored):
    def starts(seed, indices):
        dataset = RegionDataset(stored, region_size=4, batch_size=4, seed=seed)
        return {i: (dataset[i]["subject"], *dataset[i]["start"].tolist()) for i in indices}

    forward, backward = starts(3, range(40)), starts(3, reversed(range(40)))
    assert forward == backward
    assert forward != starts(4, range(40))
    assert len({value[1:] for value in forward.values()}) > 30  # not one place over and over


def test_the_draw_of_subjects_is_independent_of_the_draw_of_the_first_region(stored):
    # numpy pads entropy with zeros: default_rng([seed, step]) is default_rng([seed, step, 0])
    a, b = (np.random.default_rng(entropy).integers(2**62) for entropy in ([7, 3], [7, 3, 0]))
    assert a == b
    dataset = RegionDataset(stored, region_size=4, batch_size=1, seed=0)
    items = [dataset[step] for step in range(400)]
    place = np.array([item["start"].sum().item() for item in items])
    chosen = np.array([dataset.subjects.index(item["subject"]) for item in items])
    assert abs(np.corrcoef(place, chosen)[0, 1]) < 5 / np.sqrt(400)


def test_number_of_workers_changes_nothing(stored):
    streams = []
    for workers in (0, 2):
        dataset = RegionDataset(stored, region_size=8, batch_size=3, seed=2)
        loader = DataLoader(dataset, batch_sampler=StepSampler(3, steps=6), num_workers=workers)
        streams.append(list(loader))
    assert len(streams[0]) == 6
    assert streams[0][0]["maps"].shape == (3, 4, 8, 8, 8)
    assert streams[0][0]["maps"].dtype == torch.float16
    assert streams[0][4]["step"].tolist() == [4, 4, 4]
    assert streams[0][4]["slot"].tolist() == [0, 1, 2]
    for first, second in zip(*streams, strict=True):
        same(first, second)


def test_resumed_stream_is_the_tail_of_the_uninterrupted_one(stored):
    dataset = RegionDataset(stored, region_size=8, batch_size=2, seed=2)
    whole = list(DataLoader(dataset, batch_sampler=StepSampler(2, steps=7)))
    sampler = StepSampler(2, steps=7)
    sampler.start = 4
    assert len(sampler) == 3
    tail = list(DataLoader(dataset, batch_sampler=sampler))
    for first, second in zip(whole[4:], tail, strict=True):
        same(first, second)


def test_processes_share_the_global_batch_in_order():
    shares = [list(StepSampler(6, rank=rank, world_size=3, start=2, steps=4)) for rank in range(3)]
    one = list(StepSampler(6, start=2, steps=4))
    assert one == [[12, 13, 14, 15, 16, 17], [18, 19, 20, 21, 22, 23]]
    assert [[*a, *b, *c] for a, b, c in zip(*shares, strict=True)] == one
    assert all(len(part) == 2 for share in shares for part in share)
    endless = StepSampler(2)
    assert list(islice(endless, 1000))[-1] == [1998, 1999]
    with pytest.raises(TypeError, match="endless"):
        len(endless)


def test_regions_lie_within_the_box_or_are_centred_and_padded(write_subject, tmp_path, caplog):
    for i in range(3):
        write_subject(f"sub-{i:03d}", shape=(40, 14, 40))
    data = prepare_store(find_subjects(tmp_path / "qmri"), tmp_path / "cache", progress=False)
    with caplog.at_level(logging.WARNING):
        dataset = RegionDataset(data, region_size=20, batch_size=2, seed=0)
        items = [dataset[i] for i in range(40)]
    header = read_store_header(data[0]["store"])
    assert header.shape[1] < 20 < min(header.shape[0], header.shape[2])
    size = "x".join(map(str, header.shape))
    message = f"brain of sub-000 ({size} voxels) and 2 more smaller than the region of 20: padded with 0"
    assert caplog.messages == [message]
    starts = np.array([item["start"].numpy() for item in items]) - header.offset
    assert (starts[:, 1] == (header.shape[1] - 20) // 2).all()
    for axis in (0, 2):
        assert starts[:, axis].min() >= 0
        assert (starts[:, axis] + 20).max() <= header.shape[axis]
        assert np.ptp(starts[:, axis]) > 5
    filled = items[0]["maps"].numpy()[0].any(axis=(0, 2))
    before = -starts[0, 1]
    assert not filled[:before].any()
    assert not filled[before + header.shape[1] :].any()
    assert filled[before : before + header.shape[1]].any()


def test_every_region_holds_brain_well_inside(write_subject, tmp_path):
    def hollow(volume):  # a brain of two far corners: most regions of the box would be empty
        kept = np.zeros_like(volume)
        kept[8:12, 9:13, 9:13] = volume[8:12, 9:13, 9:13]
        kept[26:30, 27:31, 27:31] = volume[26:30, 27:31, 27:31]
        return kept

    folder = write_subject(shape=(40, 40, 40), change=dict.fromkeys(("PDmap", "R1map"), hollow))
    data = prepare_store(
        find_subjects(folder.parents[1]), tmp_path / "cache", units={"pd": "p.u.", "r1": "1/s"}, progress=False
    )
    shape, offset = np.array(read_store_header(data[0]["store"]).shape), read_store_header(data[0]["store"]).offset
    dataset = RegionDataset(data, region_size=16, batch_size=1, seed=0)
    for index in range(100):
        item = dataset[index]
        start = item["start"].numpy() - offset
        low = np.where(start == 0, 0, 4)  # a quarter of 16, save where the box ends
        high = np.where(start == shape - 16, 16, 12)
        inner = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        assert item["maps"][0][inner].any()


def test_regions_spread_over_a_box_that_is_little_larger(write_subject, tmp_path):
    folder = write_subject(shape=(40, 40, 40))
    data = prepare_store(find_subjects(folder.parents[1]), tmp_path / "cache", progress=False)
    header = read_store_header(data[0]["store"])
    size = int(0.8 * min(header.shape))
    dataset = RegionDataset(data, region_size=size, batch_size=1, seed=0)
    starts = np.array([dataset[i]["start"].numpy() for i in range(400)]) - header.offset
    for axis, extent in enumerate(header.shape):
        room = extent - size
        assert set(starts[:, axis]) == set(range(room + 1))
        # centred on brain voxels, seven starts of ten would lie on the edge of the box
        assert np.isin(starts[:, axis], (0, room)).mean() < 0.45


def test_mixed_maps_are_reduced_to_those_all_have(stored, caplog):
    with caplog.at_level(logging.WARNING):
        assert RegionDataset(stored, 6, 2)[0]["maps"].shape[0] == 4
    assert "R2 is left out for all" in caplog.text
    caplog.clear()
    with_r2 = RegionDataset([stored[0], stored[1], stored[3]], 6, 2)
    assert with_r2[0]["maps"].shape[0] == 5
    assert caplog.messages == []


def test_sessions_of_one_subject_never_meet_in_a_step(write_subject, tmp_path):
    for subject in ("sub-1", "sub-2"):
        for session in ("ses-a", "ses-b"):
            write_subject(subject, session=session)
    data = prepare_store(find_subjects(tmp_path / "qmri"), tmp_path / "cache", progress=False)
    dataset = RegionDataset(data, region_size=6, batch_size=2, seed=0)
    drawn = [dataset[i] for i in range(40)]
    steps = [{item["subject"] for item in drawn if item["step"] == step} for step in range(20)]
    assert steps == [{"sub-1", "sub-2"}] * 20
    stores = {store for scans in dataset._scans.values() for store, *_ in scans}
    assert len(stores) == 4
    with pytest.raises(InputError, match="2 subjects are fewer than a batch of 3"):
        RegionDataset(data, region_size=6, batch_size=3)
    alone = [entry for entry in data if entry["subject"] == "sub-1"]
    with pytest.raises(InputError, match="batch of 2 different ones: add subjects, as 2 are the least"):
        RegionDataset(alone, region_size=6, batch_size=2)


def test_state_per_subject_is_small_and_reads_hold_nothing(stored):
    # what a worker process copies: 60 more subjects must not matter
    store = Path(stored[0]["store"])
    data = []
    for i in range(64):
        for suffix in (".npy", ".json", ".voxels.npy"):
            os.link(store.with_suffix(suffix), store.with_name(f"linked-{i}{suffix}"))
        data.append({"subject": f"sub-{i:03d}", "store": str(store.with_name(f"linked-{i}.npy"))})
    sizes = []
    for n in (4, 64):
        dataset = RegionDataset(data[:n], region_size=6, batch_size=4)
        for index in range(40):
            assert dataset[index]["maps"].numel() == 5 * 6**3
        sizes.append(len(pickle.dumps(dataset)))
    assert (sizes[1] - sizes[0]) / 60 < 500  # bytes a subject


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 5}, r"4 subjects are fewer than a batch of 5 .*: set batch_size to 4 or less, or add"),
        ({"batch_size": 0}, "batch_size=0: give 1 or more"),
        ({"region_size": 0}, "region_size=0: give 1 or more"),
        ({"seed": -1}, "seed=-1: give 0 or more"),
    ],
)
def test_dataset_settings_are_checked(stored, settings, message):
    with pytest.raises(InputError, match=message):
        RegionDataset(stored, **{"region_size": 8, "batch_size": 2, "seed": 0, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"world_size": 3}, "batch_size=8 cannot be shared by 3 processes: make it a multiple"),
        ({"rank": 2, "world_size": 2}, "rank=2 is not one of 2 processes"),
        ({"start": -1}, "start=-1: give 0 or more"),
    ],
)
def test_sampler_settings_are_checked(settings, message):
    with pytest.raises(InputError, match=message):
        StepSampler(8, **settings)
