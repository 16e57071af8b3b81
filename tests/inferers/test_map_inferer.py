"""Maps of a head: units, one window and many, air."""

from __future__ import annotations

import math

import pytest
import torch

from scripts.errors import InputError
from scripts.inferers.maps import MapInferer, maps_in_units
from scripts.networks import Decoder, Encoder, MapHead, PretrainUNet

WIDTHS = (2, 3, 4, 5, 6)


@pytest.fixture(params=[False, True], ids=["maps", "with uncertainty"])
def network(request: pytest.FixtureRequest) -> PretrainUNet:
    torch.manual_seed(0)
    return PretrainUNet(Encoder(features=WIDTHS), Decoder(WIDTHS, 7), MapHead(7, uncertainty=request.param)).eval()


def test_units_are_those_of_the_targets() -> None:
    """White matter by hand: PD 80 - 10, R1 0.7 + 0.2, R2* 17 + 6, MTsat 0.95 + 1.5 * 0.4; nothing is below 0."""
    maps = torch.tensor([[-1.0, 1.0, 1.0, 1.5], [-9.0, -6.0, -4.0, -3.0]]).view(2, 4, 1, 1, 1)
    expected = torch.tensor([[70.0, 0.9, 23.0, 1.55], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(maps_in_units({"maps": maps}).flatten(1), expected)
    found = maps_in_units({"maps": maps, "log_scale": torch.full_like(maps, math.log(0.5))})
    torch.testing.assert_close(found[:, :4].flatten(1), expected)
    torch.testing.assert_close(found[0, 4:].flatten(), torch.tensor([5.0, 0.1, 3.0, 0.2]))
    lost = maps_in_units({"maps": maps, "log_scale": torch.full_like(maps, 200.0)})  # exp(200) is no float32
    torch.testing.assert_close(lost[0, 4:].flatten(), torch.tensor([120.0, 2.4, 72.0, 4.8]))  # targets from -6 to 6


def test_one_window_is_the_network_itself(network: PretrainUNet) -> None:
    image = torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = maps_in_units(network(image))
        found = MapInferer((32, 32, 32), fill=[0.0] * expected.shape[1])(image, network)
    torch.testing.assert_close(found, expected)


def test_windows_of_air_are_zero_and_a_wrong_fill_is_told(network: PretrainUNet) -> None:
    image = torch.full((1, 1, 32, 32, 128), -1.0)
    image[..., 4:28] = torch.rand(1, 1, 32, 32, 24, generator=torch.Generator().manual_seed(1))
    channels = network.map_head.conv.out_channels if network.map_head is not None else 0
    inferer = MapInferer((32, 32, 32), overlap=0.0, fill=[0.0] * channels)
    with torch.no_grad():
        found = inferer(image, network)
        assert (inferer.n_run, inferer.n_windows) == (1, 4)
        assert found.shape == (1, channels, 32, 32, 128)
        assert found[..., 32:].abs().max() == 0
        with pytest.raises(InputError, match="fill has 3 numbers"):
            MapInferer((32, 32, 32), fill=[0.0] * 3)(image, network)
