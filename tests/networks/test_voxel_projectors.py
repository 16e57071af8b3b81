from __future__ import annotations

import pytest
import torch

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, PretrainUNet, VoxelProjectors, level_channels

WIDTHS = (2, 3, 4, 5, 6)


def test_embeds_the_same_places_in_all_views_of_an_anatomy() -> None:
    heads = VoxelProjectors({"encoder_8": 5, "decoder_4": 4}, hidden=6, out=3).eval()
    features = {"encoder_8": torch.randn(6, 5, 2, 2, 2), "decoder_4": torch.randn(6, 4, 4, 4, 4)}
    index = {"encoder_8": torch.tensor([[0, 7], [3, 1]]), "decoder_4": torch.tensor([[63, 1, 2], [0, 17, 33]])}
    found = heads(features, index)
    for level, side in (("encoder_8", 2), ("decoder_4", 4)):
        for row in range(6):  # three views of two anatomies
            for k, cell in enumerate(index[level][row % 2].tolist()):
                i, j, m = cell // side**2, cell // side % side, cell % side
                alone = heads.levels[level](features[level][row, :, i, j, m][None])
                torch.testing.assert_close(found[level][row, k], alone[0])


def test_they_stay_in_float32_under_autocast() -> None:
    heads, features = VoxelProjectors({"encoder_8": 5}), torch.randn(2, 5, 2, 2, 2)
    index = {"encoder_8": torch.arange(8)[None]}
    expected = heads({"encoder_8": features.bfloat16().float()}, index)["encoder_8"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = heads({"encoder_8": features.bfloat16()}, index)["encoder_8"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d], ids=["plain", "channels last"])
def test_a_network_embeds_voxels_where_it_is_asked_to(layout: torch.memory_format) -> None:
    levels = ["decoder_1", "decoder_8", "encoder_1", "encoder_16"]
    encoder, decoder = Encoder(features=WIDTHS, dropout=0.0), Decoder(WIDTHS, 7)
    heads = VoxelProjectors(level_channels(encoder, decoder, levels), hidden=6, out=3)
    net = PretrainUNet(encoder, decoder, voxel_projectors=heads).to(memory_format=layout)
    image = torch.randn(4, 1, 32, 32, 32)
    assert net(image) == {}
    voxels = {level: torch.randint(8, (2, 5)) for level in levels}
    found = net(image, voxels=voxels)["voxels"]
    assert {level: tuple(value.shape) for level, value in found.items()} == dict.fromkeys(levels, (4, 5, 3))
    sum(value.square().mean() for value in found.values()).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_refuses_unknown_and_missing_levels() -> None:
    encoder, decoder = Encoder(features=WIDTHS), Decoder(WIDTHS)
    with pytest.raises(InputError, match=r"contrast_levels: \['decoder_16'\] is unknown, choose of encoder_1, "):
        level_channels(encoder, decoder, ["decoder_16", "encoder_16"])
    with pytest.raises(InputError, match="there is no level"):
        VoxelProjectors({})
    with pytest.raises(InputError, match="no head learns from its finest features; name decoder_1"):
        PretrainUNet(encoder, decoder, voxel_projectors=VoxelProjectors({"encoder_8": 5}))
