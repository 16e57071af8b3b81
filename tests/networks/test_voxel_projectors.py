from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scripts.errors import InputError
from scripts.networks import Decoder, Encoder, PretrainUNet, VoxelProjectors, level_channels, sample_voxels

WIDTHS = (2, 3, 4, 5, 6)


@pytest.mark.parametrize("stride", [1, 2, 8])
def test_samples_as_grid_sample_does(stride: int) -> None:
    features = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)
    size = stride * torch.tensor([2, 5, 4])
    places = torch.rand(2, 20, 3, dtype=torch.float64) * size - 0.5  # up to the faces
    whole = torch.stack([torch.randint(int(side), (2, 20)) for side in size], -1)
    for voxels in (places, whole.double()):
        grid = ((voxels + 0.5) / size * 2 - 1).flip(-1)[:, :, None, None]
        expected = F.grid_sample(features, grid, align_corners=False, padding_mode="border")[..., 0, 0]
        torch.testing.assert_close(sample_voxels(features, voxels, stride), expected.transpose(1, 2))


def test_at_full_resolution_a_voxel_is_read_as_it_is() -> None:
    features = torch.randn(1, 3, 4, 4, 4)
    found = sample_voxels(features, torch.tensor([[[0.0, 1, 3], [3, 3, 3]]]), 1)
    assert torch.equal(found[0], torch.stack([features[0, :, 0, 1, 3], features[0, :, 3, 3, 3]]))


def test_each_level_has_a_projector_that_sees_voxels_alone() -> None:
    heads = VoxelProjectors({"encoder_8": 5, "decoder_4": 4}, hidden=6, out=3).eval()
    features = {"encoder_8": torch.randn(6, 5, 2, 2, 2), "decoder_4": torch.randn(6, 4, 4, 4, 4)}
    voxels = 15 * torch.rand(6, 7, 3)
    found = heads(features, voxels)
    for level, stride in (("encoder_8", 8), ("decoder_4", 4)):
        picked = sample_voxels(features[level], voxels, stride)
        for row, k in ((0, 0), (5, 6), (3, 2)):
            torch.testing.assert_close(found[level][row, k], heads.levels[level](picked[row, k][None])[0])


def test_they_stay_in_float32_under_autocast() -> None:
    heads, features, voxels = VoxelProjectors({"encoder_8": 5}), torch.randn(2, 5, 2, 2, 2), 15 * torch.rand(2, 9, 3)
    expected = heads({"encoder_8": features.bfloat16().float()}, voxels)["encoder_8"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = heads({"encoder_8": features.bfloat16()}, voxels)["encoder_8"]
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
    found = net(image, voxels=31 * torch.rand(4, 5, 3))["voxels"]
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
