from __future__ import annotations

import logging

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from scripts.errors import InputError
from scripts.inferers import autocast
from scripts.inferers.autocast import AutocastInferer

IMAGE = torch.randn(1, 1, 8, 8, 8)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(1, 2, 3)


def test_off_it_leaves_everything(network: nn.Module) -> None:
    assert torch.equal(AutocastInferer(SimpleInferer(), amp="false")(IMAGE, network), network(IMAGE))


def test_on_it_is_float32_to_the_precision_of_bfloat16(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast, "has_bfloat16", lambda _: True)
    found = AutocastInferer(SimpleInferer(), amp="true")(IMAGE, network)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), network(IMAGE), rtol=0.05, atol=0.02)


def test_a_device_without_bfloat16_says_so_once(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(autocast, "has_bfloat16", lambda _: False)
    inferer = AutocastInferer(SimpleInferer(), amp=True)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(inferer(IMAGE, network), network(IMAGE))
        inferer(IMAGE, network)
    assert [r.getMessage() for r in caplog.records] == ["cpu has no bfloat16 of its own: going on in float32"]


def test_a_word_that_is_neither_is_refused() -> None:
    with pytest.raises(InputError, match="amp='perhaps'"):
        AutocastInferer(SimpleInferer(), amp="perhaps")
