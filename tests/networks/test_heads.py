from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from torch import Tensor

from scripts.errors import InputError
from scripts.networks import POOLINGS, Encoder, Pooling, PretrainNet, Projector, Reconstructor, ViTEncoder

WIDTHS = (3, 5)


@pytest.fixture
def levels() -> list[Tensor]:
    return [torch.randn(2, 3, 4, 6, 4, dtype=torch.float64), torch.randn(2, 5, 2, 3, 2, dtype=torch.float64)]


def naive(kind: str, pooling: Pooling, levels: list[Tensor]) -> np.ndarray:
    """Return the pooled vectors by numpy, one sample and channel at a time."""
    last = levels[-1].numpy()
    flat = last.reshape(*last.shape[:2], -1)
    if kind == "levels":
        columns = []
        for level in levels:
            cells = level.numpy().reshape(*level.shape[:2], -1)
            columns += [cells.mean(2), cells.std(2)]
        return np.concatenate(columns, 1)
    rows = []
    for sample in flat:
        if kind == "attention":
            weight, bias = (p.detach().numpy() for p in pooling.parameters())
            score = np.exp(weight[0] @ sample + bias)
            rows.append([np.sum(channel * score) / score.sum() for channel in sample])
            continue
        mean = [channel.mean() for channel in sample]
        largest = [max(channel) for channel in sample]
        cubic = [np.cbrt(np.mean(np.maximum(channel, 1e-6) ** 3)) for channel in sample]
        rows.append({"mean": mean, "max": largest, "mean_max": mean + largest, "gem": cubic}[kind])
    return np.array(rows)


@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_equals_numpy(kind: str, levels: list[Tensor]) -> None:
    pooling = Pooling(kind, WIDTHS).double()
    pooled = pooling(levels).detach()
    assert pooled.shape == (2, pooling.out_channels)
    np.testing.assert_allclose(pooled, naive(kind, pooling, levels), rtol=1e-5)


@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_ignores_order_of_cells_but_not_of_samples(kind: str, levels: list[Tensor]) -> None:
    pooling = Pooling(kind, WIDTHS).double()
    torch.testing.assert_close(pooling([level.flip(2, 4) for level in levels]), pooling(levels))
    torch.testing.assert_close(pooling([level.flip(0) for level in levels]), pooling(levels).flip(0))
    torch.testing.assert_close(torch.jit.script(pooling)(levels), pooling(levels))


@pytest.mark.parametrize("kind", POOLINGS)
def test_pooling_gradient(kind: str, levels: list[Tensor]) -> None:
    pooling = Pooling(kind, WIDTHS).double()
    inputs = [level[:1, :, :2, :2, :1].clone().requires_grad_() for level in levels]
    assert torch.autograd.gradcheck(lambda *x: pooling(list(x)), inputs)


def test_generalised_mean_lies_between_mean_and_maximum() -> None:
    x = [torch.rand(3, 4, 3, 3, 3) + 0.1]
    gem = Pooling("gem", 4)
    with torch.no_grad():
        gem.pool.exponent.fill_(1.0)
        torch.testing.assert_close(gem(x), Pooling("mean", 4)(x))
        gem.pool.exponent.fill_(60.0)
        torch.testing.assert_close(gem(x), Pooling("max", 4)(x), rtol=0.06, atol=0)


@pytest.mark.parametrize(
    ("kind", "channels", "message"),
    [
        ("median", 4, "pooling: 'median' is unknown, choose one of mean, max"),
        ("levels", 4, "channels: pooling 'levels' needs the width of every level"),
    ],
    ids=["unknown", "levels"],
)
def test_pooling_refuses(kind: str, channels: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Pooling(kind, channels)


def test_heads_of_table_6() -> None:
    projector, reconstructor = Projector(), Reconstructor()
    linear = [m for m in projector.modules() if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(768, 512), (512, 128)]
    up = [m for m in reconstructor.modules() if isinstance(m, torch.nn.ConvTranspose3d)]
    assert [(m.in_channels, m.out_channels) for m in up] == [(768, 384), (384, 192), (192, 96), (96, 48)]
    assert {(m.kernel_size, m.stride) for m in up} == {((2, 2, 2), (2, 2, 2))}


def test_projector_stays_in_float32_under_autocast() -> None:
    projector = Projector(16, 8, 4)
    x = [torch.randn(2, 16, 2, 2, 2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedding = projector(x)
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, projector(x))


def test_batch_norm_in_the_projector_tells_nearly_equal_features_apart():
    torch.manual_seed(0)
    pooled = 0.3 + 1e-3 * torch.randn(16, 16, 1, 1, 1)
    cosine = []
    for norm in (None, "batch"):
        torch.manual_seed(1)
        z = torch.nn.functional.normalize(Projector(16, 32, 8, norm=norm)([pooled]), dim=1)
        cosine.append((z @ z.T)[~torch.eye(16, dtype=torch.bool)].mean().item())
    assert cosine[0] > 0.999
    assert cosine[1] < 0.9
    with pytest.raises(InputError, match="unknown projector norm 'layer'"):
        Projector(16, norm="layer")


def test_reconstructed_block_depends_on_its_cell_alone() -> None:
    """Kernel 2, stride 2, no overlap: with the norms off, one bottleneck cell makes one 16^3 block."""
    reconstructor = Reconstructor(4, (4, 3, 3, 2)).eval()
    for block in reconstructor.up:
        block[1] = torch.nn.Identity()
    x = torch.randn(1, 4, 2, 3, 2)
    changed = x.clone()
    changed[0, :, 1, 2, 0] += 1
    difference = (reconstructor(changed) - reconstructor(x))[0, 0] != 0
    assert difference.shape == (32, 48, 32)
    assert difference[16:, 32:, :16].any()
    difference[16:, 32:, :16] = False
    assert not difference.any()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pretrain_net(pooling: str, make_net: Callable[..., PretrainNet]) -> None:
    net = make_net(pooling)
    x = torch.randn(2, 1, 32, 48, 32)
    pred = net(x)
    assert {key: tuple(value.shape) for key, value in pred.items()} == {
        "embedding": (2, 7),
        "reconstruction": (2, 1, 32, 48, 32),
    }
    sum(value.square().sum() for value in pred.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert {key.split(".")[0] for key in net.state_dict()} == {"encoder", "projector", "reconstructor"}


@pytest.mark.parametrize("pooling", ["mean", "levels"])
def test_pretrain_net_scripts(pooling: str, make_net: Callable[..., PretrainNet]) -> None:
    net = make_net(pooling).eval()
    x = torch.randn(1, 1, 32, 32, 32)
    scripted = torch.jit.script(net)(x)
    for key, value in net(x).items():
        torch.testing.assert_close(scripted[key], value)


def test_pretrain_net_of_a_vit() -> None:
    vit = ViTEncoder(32, 16, hidden_size=12, mlp_dim=8, num_layers=1, num_heads=2)
    net = PretrainNet(vit, Projector(vit.channels, 8, 7, "levels"), Reconstructor(12, (6, 5, 4, 3)))
    pred = net(torch.randn(2, 1, 32, 32, 32))
    assert pred["embedding"].shape == (2, 7)
    assert pred["reconstruction"].shape == (2, 1, 32, 32, 32)
    sum(value.square().sum() for value in pred.values()).backward()
    assert all((p.grad is not None) == p.requires_grad for p in net.parameters())  # or DDP would stop


@pytest.mark.parametrize("shape", [(32, 40, 32), (32, 16, 32)], ids=["no multiple", "one cell"])
def test_pretrain_net_refuses_sizes(shape: tuple[int, ...], make_net: Callable[..., PretrainNet]) -> None:
    size = "x".join(map(str, shape))
    with pytest.raises(InputError, match=f"patch of {size} voxels: .*multiple of 16 and at least 32"):
        make_net()(torch.zeros(1, 1, *shape))


def test_pretrain_net_refuses_heads_that_do_not_fit() -> None:
    widths = (2, 3, 4, 5, 6)
    with pytest.raises(InputError, match="reconstructor: enlarges 8 times, the encoder shrinks 16 times"):
        PretrainNet(Encoder(features=widths), Projector(widths), Reconstructor(widths, (4, 3, 2)))
    with pytest.raises(InputError, match=r"features: .*got none"):
        Reconstructor(6, ())


def test_pretrain_net_and_loss_from_a_config() -> None:
    parser = ConfigParser(
        {
            "features": [2, 3, 4, 5, 6],
            "net": {
                "_target_": "scripts.networks.PretrainNet",
                "encoder": {
                    "_target_": "scripts.networks.Encoder",
                    "features": "@features",
                    "norm": ["group", {"num_groups": 1}],
                },
                "projector": {"_target_": "scripts.networks.Projector", "channels": "@features", "pooling": "levels"},
                "reconstructor": {
                    "_target_": "scripts.networks.Reconstructor",
                    "channels": "$@features[-1]",
                    "features": "$@features[-2::-1]",
                },
            },
            "loss": {
                "_target_": "scripts.losses.PretrainLoss",
                "contrastive": {"_target_": "scripts.losses.NTXentLoss", "temperature": 0.5},
            },
        }
    )
    x = torch.randn(4, 1, 32, 32, 32)
    losses = parser.get_parsed_content("loss")(parser.get_parsed_content("net")(x), x)
    torch.testing.assert_close(losses["loss"].detach(), losses["contrastive"] + losses["l1"])
