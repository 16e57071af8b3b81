"""Steps of images and steps of simulated contrasts in one stream."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from scripts.data.mixed import MixedDataset
from scripts.data.regions import StepSampler
from scripts.errors import InputError


class Named:
    """Items that tell their kind and number."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.prepared: list[str] = []

    def prepare(self, description: str) -> None:
        self.prepared.append(description)

    def __getitem__(self, index: int) -> Any:
        return {"kind": self.kind, "index": index}


def mixed(fraction: float, seed: int = 0, batch_size: int = 2) -> MixedDataset:
    return MixedDataset(Named("images"), Named("maps"), fraction, batch_size, seed)


def kinds(data: MixedDataset, steps: int, **sampler: int) -> list[tuple[str, list[int]]]:
    batches = DataLoader(data, batch_sampler=StepSampler(data.batch_size, steps=steps, **sampler))
    found = []
    for batch in batches:
        assert len(set(batch["kind"])) == 1, "a step is of one kind"
        found.append((batch["kind"][0], batch["index"].tolist()))
    return found


def test_a_step_is_of_one_kind_and_keeps_its_numbers() -> None:
    found = kinds(mixed(0.5), 40)
    assert [index for _, index in found] == [[2 * step, 2 * step + 1] for step in range(40)]
    assert {kind for kind, _ in found} == {"images", "maps"}


def test_the_share_of_simulated_steps_is_the_fraction() -> None:
    for fraction in (0.1, 0.5, 0.8):
        data = mixed(fraction)
        share = np.mean([data.is_simulated(step) for step in range(4000)])
        assert abs(share - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 4000)


def test_0_and_1_leave_one_kind_alone() -> None:
    assert {kind for kind, _ in kinds(mixed(0.0), 30)} == {"images"}
    assert {kind for kind, _ in kinds(mixed(1.0), 30)} == {"maps"}


def test_resumed_and_distributed_steps_are_those_of_one_run() -> None:
    whole = kinds(mixed(0.5), 20)
    assert kinds(mixed(0.5), 20, start=7) == whole[7:]
    shares = [kinds(mixed(0.5), 20, rank=rank, world_size=2) for rank in range(2)]
    for (kind, index), *parts in zip(whole, *shares, strict=True):
        assert [part[0] for part in parts] == [kind, kind]
        assert [number for part in parts for number in part[1]] == index
    assert kinds(mixed(0.5, seed=1), 20) != whole


def test_both_kinds_are_prepared() -> None:
    data = mixed(0.5)
    data.prepare("preparing")
    assert data.images.prepared == data.simulated.prepared == ["preparing"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match=f"synthetic={fraction}"):
        mixed(fraction)


def test_the_draw_is_that_of_no_other_stream() -> None:
    drawn = torch.tensor([mixed(0.5).is_simulated(step) for step in range(64)])
    other = torch.tensor([np.random.default_rng([1, 0, step]).random() < 0.5 for step in range(64)])
    assert not torch.equal(drawn, other)
