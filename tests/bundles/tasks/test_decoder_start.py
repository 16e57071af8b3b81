"""A task that starts from the decoder of a pretraining too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.networks import Decoder, Encoder, MapHead, PretrainUNet
from tests.bundles.tasks.conftest import TINY, configs_of


def test_it_trains_on_and_says_what_it_loaded(
    tmp_path: Path,
    task_settings: Callable[..., dict[str, Any]],
    run_here: Callable[..., ConfigWorkflow],
    caplog: pytest.LogCaptureFixture,
) -> None:
    *widths, last = TINY["features"]
    net = PretrainUNet(Encoder(features=widths), Decoder(widths, last), MapHead(last))
    path = tmp_path / "maps" / "model.pt"
    path.parent.mkdir()
    torch.save(net.state_dict(), path)
    changed = {"encoder_bundle": str(path), "encoder_part": "decoder", "max_epochs": 1, "epoch_length": 1}
    with caplog.at_level("INFO", "scripts"):
        run_here(["train.json"], task_settings("ixi_seg", tmp_path, **changed), folder=configs_of("ixi_seg"))
    assert f"Encoder: 20 of 20 encoder tensors from {path}, frozen" in caplog.text
    assert f"Decoder: 24 of 24 tensors from {path}, trained along" in caplog.text
    trained = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    given = {key.split(".", 1)[1]: value for key, value in net.state_dict().items()}
    weights = [key for key in trained if key.endswith("weight") and key in given]
    changed_weights = {key for key in weights if not torch.equal(trained[key], given[key])}
    assert changed_weights == {key for key in weights if key.startswith("upcat")}
    # one step of AdamW moves a weight by about the learning rate
    assert all((trained[key] - given[key]).abs().max() < 0.01 for key in changed_weights)
