"""Frozen features beside the image: what is loaded, what trains, what is dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, MapHead, PretrainUNet
from scripts.networks.beside import FeaturesBeside
from scripts.networks.downstream import task_network

WIDTHS = (2, 3, 4, 5, 6)


class Seen(nn.Module):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv3d(8, 2, 1)
        self.inputs: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inputs = x
        return self.last(x)


def beside(drop: float = 0.75) -> tuple[FeaturesBeside, Seen]:
    seen = Seen()
    return FeaturesBeside(BasicUNet(features=(*WIDTHS, 7), act="GELU", norm="instance", dropout=0.1), seen, drop), seen


def test_features_are_those_of_the_pretrained_unet_and_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = PretrainUNet(Encoder(features=WIDTHS, dropout=0.0), Decoder(WIDTHS, 7), MapHead(7))
    torch.save(source.state_dict(), tmp_path / "model.pt")
    net, seen = beside()
    made = task_network(net, encoder_bundle=tmp_path / "model.pt", encoder_part="decoder", freeze_decoder=True)
    assert made.decoder.endswith("frozen")
    assert {n.split(".")[0] for n, p in made.network.named_parameters() if p.requires_grad} == {"network"}
    x = torch.randn(2, 1, 32, 32, 32)
    made.network.train()
    with torch.no_grad():
        wanted = source.eval().decoder(source.encoder.levels(x))[0]
        made.network.eval()(x)
    assert seen.inputs is not None
    torch.testing.assert_close(seen.inputs[:, :1], x)
    torch.testing.assert_close(seen.inputs[:, 1:], nn.functional.instance_norm(wanted))


def test_channels_of_features_are_dropped_in_training_alone_and_the_image_never() -> None:
    torch.manual_seed(0)
    net, seen = beside(0.5)
    dropped = 0
    for _ in range(40):
        net.train()(torch.randn(1, 1, 16, 16, 16).repeat(1, 1, 2, 2, 2))
        assert seen.inputs is not None
        empty = (seen.inputs == 0).flatten(2).all(2)
        assert not empty[:, 0].any()
        dropped += int(empty.sum())
    assert 110 < dropped < 170  # 140 of 280 expected, deviation 8.4
    net.eval()(torch.randn(1, 1, 32, 32, 32))
    assert not (seen.inputs == 0).flatten(2).all(2).any()


def test_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="Linear: has no final_conv to take off; use MONAI's BasicUNet"):
        FeaturesBeside(nn.Linear(1, 1), nn.Identity())
