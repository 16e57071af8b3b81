"""What came pretrained waits, warms up and learns more slowly; the rest learns from the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, MapHead, PretrainUNet
from scripts.networks.downstream import TaskNetwork, task_network
from scripts.networks.stages import Stages, parameter_groups, stage_rates

WIDTHS = (2, 2, 2, 2, 2)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS, 2), MapHead(2)).state_dict(), tmp_path / "m.pt")
    return tmp_path / "m.pt"


def staged(weights: Path, part: str = "decoder") -> TaskNetwork:
    network = BasicUNet(features=(*WIDTHS, 2), out_channels=2, act="GELU", norm="instance")
    return task_network(network, encoder_bundle=weights, encoder_part=part, freeze="staged")


def epochs(made: TaskNetwork, count: int, **stages: Any) -> list[set[str]]:
    """Train for some epochs of one step; return the blocks that changed in each."""
    optimizer = torch.optim.AdamW(parameter_groups(made, made.network), lr=0.01, weight_decay=0.1)
    rates = stage_rates(made, lambda epoch: 1 - epoch / count, count, stages)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
    changed = []
    for _ in range(count):
        before = {key: value.clone() for key, value in made.network.state_dict().items()}
        optimizer.zero_grad()
        made.network(torch.randn(1, 1, 32, 32, 32)).square().mean().backward()
        optimizer.step()
        schedule.step()
        after = made.network.state_dict()
        changed.append({key.split(".")[0] for key in after if not torch.equal(after[key], before[key])})
    return changed


def test_the_new_part_learns_first_then_all(weights: Path) -> None:
    every = {"conv_0", *(f"down_{n}" for n in range(1, 5)), *(f"upcat_{n}" for n in range(1, 5)), "final_conv"}
    first, second, third, last = epochs(staged(weights), 4, wait=0.5, warm_up=0.0)
    assert first == second == {"final_conv"}
    assert third == last == every


def test_a_new_decoder_belongs_to_what_learns_first(weights: Path) -> None:
    made = staged(weights, "encoder")
    assert epochs(made, 1, wait=0.5) == [{*(f"upcat_{n}" for n in range(1, 5)), "final_conv"}]


def test_rates_fall_with_the_schedule_and_rise_in_the_warm_up(weights: Path) -> None:
    made = staged(weights)
    new, pretrained = stage_rates(made, lambda epoch: 1 - epoch / 10, 10, {"wait": 0.2, "warm_up": 0.4, "rate": 0.5})
    assert [round(new(epoch), 6) for epoch in range(10)] == [round(1 - n / 10, 6) for n in range(10)]
    wanted = [0, 0, 0, 0.7 * 0.125, 0.6 * 0.25, 0.5 * 0.375, 0.4 * 0.5, 0.3 * 0.5, 0.2 * 0.5, 0.1 * 0.5]
    assert [pretrained(epoch) for epoch in range(10)] == pytest.approx(wanted)


def test_both_groups_hold_every_trained_parameter_once(weights: Path) -> None:
    made = staged(weights)
    groups = [[id(p) for p in group["params"]] for group in parameter_groups(made, made.network)]
    assert len(groups) == 2
    assert sorted(groups[0] + groups[1]) == sorted(id(p) for p in made.network.parameters())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"encoder": "none"}, "freeze=staged is for pretrained weights"),
        ({"encoder_part": "decoder", "freeze_decoder": True}, "freeze=staged is for pretrained weights"),
        ({"freeze": "stages"}, "freeze='stages' is neither true nor false"),
    ],
)
def test_what_cannot_be_staged_is_refused(weights: Path, options: dict[str, Any], told: str) -> None:
    network = BasicUNet(features=(*WIDTHS, 2), norm="instance")
    with pytest.raises(InputError, match=told):
        task_network(network, **{"encoder_bundle": weights, "freeze": "staged", **options})


@pytest.mark.parametrize("stages", [{"wait": 1.0}, {"wait": 0.6, "warm_up": 0.4}, {"rate": 0}, {"wait": -0.1}])
def test_shares_that_are_none_are_refused(stages: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"stages=.*give shares from 0 to 1"):
        Stages(**stages)
