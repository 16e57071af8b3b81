"""The U-Net of pretraining is a BasicUNet that a task can start from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet

from scripts.errors import InputError
from scripts.networks import (
    Decoder,
    Encoder,
    MapHead,
    PretrainedEncoder,
    PretrainUNet,
    Projector,
    ViTEncoder,
)

WIDTHS = (2, 3, 4, 5, 6)
Make = Callable[..., PretrainUNet]


@pytest.fixture
def make_unet() -> Make:
    def make(**heads: Any) -> PretrainUNet:
        heads = heads or {"map_head": MapHead(7)}
        return PretrainUNet(Encoder(features=WIDTHS, dropout=0.0), Decoder(WIDTHS, 7), **heads)

    return make


def test_a_stock_unet_loads_encoder_and_decoder_and_computes_the_same(make_unet: Make) -> None:
    net = make_unet()
    unet = BasicUNet(features=(*WIDTHS, 7), out_channels=4, act="GELU", norm="instance")
    parts = ("encoder.", "decoder.")
    state = {key.split(".", 1)[1]: value for key, value in net.state_dict().items() if key.startswith(parts)}
    lacking, extra = unet.load_state_dict(state, strict=False)
    assert (lacking, extra) == (["final_conv.weight", "final_conv.bias"], [])
    unet.final_conv.load_state_dict(net.map_head.conv.state_dict())  # type: ignore[union-attr]
    image = torch.randn(2, 1, 32, 48, 32)
    torch.testing.assert_close(net(image)["maps"], unet(image))


def test_its_keys_begin_with_the_names_of_its_parts(make_unet: Make) -> None:
    net = make_unet(map_head=MapHead(7), projector=Projector(WIDTHS))
    assert {key.split(".")[0] for key in net.state_dict()} == {"encoder", "decoder", "map_head", "projector"}
    encoder = PretrainedEncoder(Encoder(features=WIDTHS))
    encoder.load_state_dict(net.state_dict())
    assert torch.equal(encoder.encoder.down_4.convs.conv_1.conv.weight, net.encoder.down_4.convs.conv_1.conv.weight)


@pytest.mark.parametrize("pooling", ["mean", "levels"])
def test_each_head_gives_what_it_is_for(make_unet: Make, pooling: str) -> None:
    net = make_unet(map_head=MapHead(7, uncertainty=True), projector=Projector(WIDTHS, 8, 5, pooling))
    found = net(torch.randn(2, 1, 32, 32, 32))
    shapes = {"maps": (2, 4, 32, 32, 32), "log_scale": (2, 4, 32, 32, 32), "embedding": (2, 5)}
    assert {name: tuple(value.shape) for name, value in found.items()} == shapes
    sum(value.sum() for value in found.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_the_head_stays_in_float32_under_autocast(make_unet: Make) -> None:
    net = make_unet()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = net(torch.randn(1, 1, 32, 32, 32))["maps"]
        maps.abs().mean().backward()
    assert maps.dtype == torch.float32
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_refuses_what_does_not_fit(make_unet: Make) -> None:
    with pytest.raises(InputError, match="ViTEncoder: a U-Net needs the convolutional encoder"):
        PretrainUNet(ViTEncoder(32, hidden_size=12, mlp_dim=8, num_layers=1, num_heads=2), Decoder(WIDTHS), MapHead(32))
    with pytest.raises(InputError, match="decoder: made for levels of"):
        PretrainUNet(Encoder(features=WIDTHS), Decoder((2, 4, 4, 5, 6)), MapHead(32))
    with pytest.raises(InputError, match="no head learns from its finest features; name decoder_1"):
        PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS))
    with pytest.raises(InputError, match="five widths"):
        Decoder((2, 3, 4, 5))
    with pytest.raises(InputError, match="patch of 40x32x32 voxels"):
        make_unet()(torch.zeros(1, 1, 40, 32, 32))
