from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from scripts.errors import InputError
from scripts.networks import Encoder, ViTEncoder

FULL = (64, 128, 256, 512, 768)
SMALL = (2, 3, 4, 5, 6)


def n_parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def convolution_parameters(widths: tuple[int, ...]) -> int:
    pairs = zip((1, *widths[:-1]), widths, strict=True)
    return sum(27 * wide * out + out + 27 * out * out + out for wide, out in pairs)


def test_full_size_keys_shapes_and_counts() -> None:
    with torch.device("meta"):
        ours = Encoder()
        theirs = BasicUNet(features=(*FULL, 32), act="GELU", norm="instance", dropout=0.2)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    mine = {key: value.shape for key, value in ours.state_dict().items()}
    assert mine.items() < shapes.items()
    assert not any(key.startswith(("conv_0", "down_")) for key in shapes.keys() - mine.keys())
    assert n_parameters(ours) == convolution_parameters(FULL)
    assert round(n_parameters(ours) / 1e6, 1) == 40.6
    assert round(n_parameters(theirs) / 1e6, 1) == 70.7


@pytest.mark.parametrize("training", [False, True], ids=["eval", "dropout on"])
def test_equals_basic_unet_given_its_weights(training: bool) -> None:
    unet = BasicUNet(features=(*SMALL, 2), act="GELU", norm="instance", dropout=0.2)
    encoder = Encoder(features=SMALL)
    encoder.load_state_dict({key: value for key, value in unet.state_dict().items() if key in encoder.state_dict()})
    unet.train(training)
    encoder.train(training)
    bottleneck: list[torch.Tensor] = []
    unet.down_4.register_forward_hook(lambda module, args, output: bottleneck.append(output))
    x = torch.randn(2, 1, 32, 48, 32)
    torch.manual_seed(5)
    unet(x)
    torch.manual_seed(5)
    assert torch.equal(encoder(x), bottleneck[0])
    torch.manual_seed(5)
    assert torch.equal(encoder.levels(x)[-1], bottleneck[0])


def test_levels_have_the_stated_widths_and_sizes() -> None:
    encoder = Encoder(features=SMALL)
    levels = encoder.levels(torch.randn(1, 1, 32, 48, 64))
    assert [tuple(level.shape) for level in levels] == [
        (1, width, 32 >> i, 48 >> i, 64 >> i) for i, width in enumerate(encoder.channels)
    ]
    assert levels[0].shape[2] == levels[-1].shape[2] * encoder.stride


def test_bottleneck_ignores_gain_of_the_image() -> None:
    encoder = Encoder(features=SMALL, dropout=0.0).double().eval()
    x = torch.randn(1, 1, 32, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(encoder(7 * x), encoder(x), rtol=1e-3, atol=1e-4)


def test_encoder_scripts() -> None:
    encoder = Encoder(features=SMALL).eval()
    x = torch.randn(1, 1, 32, 32, 32)
    assert torch.equal(torch.jit.script(encoder)(x), encoder(x))


@pytest.mark.parametrize("features", [(4, 4, 4, 4), (4, 4, 4, 4, 0), (4,) * 6], ids=["four", "zero", "six"])
def test_encoder_needs_five_widths(features: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"features: .*five positive widths, got \["):
        Encoder(features=features)


@pytest.fixture(scope="module")
def vit() -> ViTEncoder:
    return ViTEncoder(48, 16, hidden_size=24, mlp_dim=32, num_layers=4, num_heads=3).eval()


def test_full_size_vit_is_vit_base() -> None:
    with torch.device("meta"):
        vit = ViTEncoder()
    tokens, width, mlp = 216, 768, 3072
    attention = 4 * width * width + width  # qkv without bias, output with
    block = attention + 2 * width * mlp + mlp + width + 3 * 2 * width  # the third norm is not used
    expected = 16**3 * width + width + tokens * width + 12 * block + 2 * width
    assert n_parameters(vit) == expected
    assert vit.channels == (768,) * 4
    assert vit.taps == (2, 5, 8)


def test_vit_keeps_tokens_in_their_place(vit: ViTEncoder) -> None:
    """What happens in one patch is seen in that cell of the embedded grid, and in no other."""
    x = torch.zeros(1, 1, 48, 48, 48)
    changed = x.clone()
    changed[..., 16:32, 32:48, 0:16] = torch.randn(16, 16, 16)
    embed = vit.vit.patch_embedding
    difference = (vit._grid(embed(changed)) - vit._grid(embed(x))).abs().sum(1)[0]
    assert difference.nonzero().tolist() == [[1, 2, 0]]


def test_vit_levels(vit: ViTEncoder) -> None:
    x = torch.randn(2, 1, 48, 48, 48)
    levels = vit.levels(x)
    assert [tuple(level.shape) for level in levels] == [(2, 24, 3, 3, 3)] * len(vit.channels)
    assert torch.equal(vit(x), levels[-1])
    tokens = levels[-1].flatten(2).mean(1)  # the last layer norm has unit gain and no offset at first
    torch.testing.assert_close(tokens, torch.zeros_like(tokens), atol=1e-5, rtol=0)
    assert not torch.allclose(levels[0], levels[1])


def test_vit_scripts(vit: ViTEncoder) -> None:
    x = torch.randn(1, 1, 48, 48, 48)
    torch.testing.assert_close(torch.jit.script(vit)(x), vit(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 90}, "image_size: 90 is no multiple of patch_size 16"),
        ({"num_heads": 7}, "hidden_size: 768 is no multiple of num_heads 7"),
    ],
    ids=["patch", "heads"],
)
def test_vit_refuses_sizes(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ViTEncoder(**options)


def test_vit_refuses_another_image_size(vit: ViTEncoder) -> None:
    with pytest.raises(InputError, match=r"image of 32x48x48 voxels: .*cubes of 48"):
        vit(torch.zeros(1, 1, 32, 48, 48))
