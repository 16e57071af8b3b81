from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers.inferer import SlidingWindowInferer
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.inferers.head_windows import HeadWindowInferer, near_head

FILL = (10.0, 0.0)


class Counting(nn.Module):
    """Answers fill on voxels of the background, and something of its neighbourhood elsewhere; counts its rows."""

    def __init__(self, background: float = -1.0) -> None:
        super().__init__()
        self.background = background
        self.rows: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows += list(x.clone())
        head = (x > self.background + 0.5).float()
        return torch.cat([10 - 12 * head * x, 3 * head * x], dim=1)


@pytest.fixture
def corner() -> Callable[..., Tensor]:
    """Make volumes of background -1 with a bright block of texture at a place."""

    def make(shape: tuple[int, ...], block: tuple[slice, ...], seed: int = 0) -> Tensor:
        volume = torch.full((1, 1, *shape), -1.0)
        values = volume[(0, 0, *block)]
        volume[(0, 0, *block)] = 1 + torch.rand(values.shape, generator=torch.Generator().manual_seed(seed))
        return volume

    return make


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(3)
    net = BasicUNet(3, 1, 4, (4, 4, 8, 8, 8, 4), act="GELU", norm="instance", dropout=0.2, upsample="deconv")
    return net.eval()


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("fill", [None, (10.0, 0.0, 0.0, 0.0)], ids=["all windows", "head windows"])
def test_is_the_stock_inferer_where_every_window_holds_head(
    network: nn.Module, corner: Callable[..., Tensor], mode: str, fill: Any
) -> None:
    volume = corner((41, 36, 50), (slice(2, 39), slice(1, 35), slice(3, 48)))
    ours = HeadWindowInferer((32, 32, 32), 2, 0.5, mode, fill)
    with torch.no_grad():
        expected = SlidingWindowInferer((32, 32, 32), 2, 0.5, mode)(volume, network)
        torch.testing.assert_close(ours(volume, network), expected, rtol=1e-5, atol=1e-5)
    assert ours.n_run == ours.n_windows == 2 * 2 * 3


def starts(length: int, step: int, window: int) -> list[int]:
    """Starts of windows at multiples of a step, the last moved back so that it ends with the volume."""
    return sorted({min(k, length - window) for k in range(0, length, step)})


@pytest.mark.parametrize("batch", [1, 3])
def test_runs_exactly_the_windows_that_hold_head(corner: Callable[..., Tensor], batch: int) -> None:
    shape = (40, 47, 33)
    volume = corner(shape, (slice(3, 17), slice(4, 19), slice(2, 12)))
    ours, ran = HeadWindowInferer((16, 16, 16), batch, 0.5, fill=FILL), Counting()
    output = ours(volume, ran)
    mask = near_head(volume)[0, 0].numpy() > 0
    every = list(product(*(starts(n, 8, 16) for n in shape)))
    held = [w for w in every if mask[tuple(slice(s, s + 16) for s in w)].any()]
    assert ours.n_windows == len(every)
    assert len(ran.rows) == ours.n_run == len(held) < len(every) / 2
    expected = [volume[(0, slice(None), *(slice(s, s + 16) for s in w))] for w in held]
    torch.testing.assert_close(torch.stack(ran.rows), torch.stack(expected), rtol=0, atol=0)
    stock = SlidingWindowInferer((16, 16, 16), batch, 0.5, "gaussian")(volume, Counting())
    torch.testing.assert_close(output, stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 31, 33), (17, 16, 9)])
def test_the_mask_holds_the_head_and_little_more(corner: Callable[..., Tensor], shape: tuple[int, int, int]) -> None:
    block = tuple(slice(3, n // 2) for n in shape)
    volume = corner(shape, block)
    near = near_head(volume)[0, 0].numpy() > 0
    assert near.shape == shape
    assert near[block].all()
    distance = [np.clip(np.maximum(s.start - np.arange(n), np.arange(n) - s.stop + 1), 0, None)
                for n, s in zip(shape, block, strict=True)]  # fmt: skip
    grid = np.max(np.meshgrid(*distance, indexing="ij"), axis=0)
    assert near[grid <= 1].all()
    assert not near[grid > 4].any()


def test_background_alone_is_answered_by_the_fill_without_the_network() -> None:
    ours, ran = HeadWindowInferer(16, 2, 0.5, fill=FILL), Counting()
    output = ours(torch.zeros(1, 1, 20, 24, 31), ran)
    assert not ran.rows
    assert (ours.n_run, ours.n_windows) == (0, 2 * 2 * 3)
    torch.testing.assert_close(output, torch.tensor(FILL).view(1, 2, 1, 1, 1).expand(1, 2, 20, 24, 31))


def test_a_small_volume_is_padded_with_its_minimum(corner: Callable[..., Tensor], network: nn.Module) -> None:
    volume = corner((21, 40, 18), (slice(3, 18), slice(4, 36), slice(2, 16)))
    ran = Counting()
    HeadWindowInferer(32, 1, 0.5, fill=FILL)(volume, ran)
    assert {float(row.min()) for row in ran.rows} == {-1.0}
    assert all(not bool((row == 0).any()) for row in ran.rows)
    with torch.no_grad():
        ours = HeadWindowInferer(32, 1, 0.5, fill=(10, 0, 0, 0))(volume, network)
        stock = SlidingWindowInferer(32, 1, 0.5, "gaussian", cval=-1.0)(volume, network)
    assert ours.shape == (1, 4, 21, 40, 18)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)


def test_a_batch_of_two_is_two_images(corner: Callable[..., Tensor], network: nn.Module) -> None:
    pair = torch.cat(
        [
            corner((40, 20, 33), (slice(2, 14), slice(2, 12), slice(3, 12))),
            2 * corner((40, 20, 33), (slice(20, 38), slice(2, 18), slice(5, 30)), seed=1),
        ]
    )
    ours = HeadWindowInferer((16, 32, 16), 3, 0.25, fill=(10, 0, 0, 0))
    with torch.no_grad():
        together = ours(pair, network)
        n_run = ours.n_run
        alone, counts = [], []
        for volume in pair.split(1):
            alone.append(ours(volume, network))
            counts.append(ours.n_run)
    assert n_run == sum(counts)
    assert counts[0] != counts[1]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_keeps_affine_and_file_of_the_input(corner: Callable[..., Tensor]) -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    volume = MetaTensor(corner((20, 20, 20), (slice(2, 9),) * 3), affine=affine, meta={"filename_or_obj": "a.nii"})
    output = HeadWindowInferer(16, fill=FILL)(volume, Counting())
    assert isinstance(output, MetaTensor)
    assert output.meta["filename_or_obj"] == "a.nii"
    torch.testing.assert_close(output.affine, affine)
    assert type(HeadWindowInferer(16, fill=FILL)(volume.as_tensor(), Counting())) is Tensor


def test_shows_a_bar_over_the_windows_it_runs(corner: Callable[..., Tensor], capfd: pytest.CaptureFixture[str]) -> None:
    volume = corner((40, 47, 20), (slice(3, 17), slice(4, 19), slice(2, 12)))
    ours = HeadWindowInferer((16, 16, 24), 1, (0.5, 0.25, 0.5), fill=FILL, progress=True)
    ours(volume, Counting())
    told = capfd.readouterr().err
    assert f"0/{ours.n_run} " in told
    assert ours.n_run < ours.n_windows


def test_refuses_what_does_not_fit(corner: Callable[..., Tensor], network: nn.Module) -> None:
    volume = corner((20, 20, 20), (slice(2, 9),) * 3)
    with pytest.raises(InputError, match="fill has 2 numbers"):
        HeadWindowInferer(32, fill=FILL)(volume, network)
    with pytest.raises(InputError, match=r"must be \(N, C, I, J, K\) without NaN"):
        HeadWindowInferer(16, fill=FILL)(volume[0], network)
    volume[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN or Inf: mend it"):
        HeadWindowInferer(16, fill=FILL)(volume, network)
    with pytest.raises(InputError, match="0 <= overlap < 1"):
        HeadWindowInferer(16, overlap=1.0)
    with pytest.raises(InputError, match="sw_batch_size >= 1"):
        HeadWindowInferer(16, 0)


@pytest.mark.gpu
def test_windows_on_the_gpu_are_stitched_on_the_cpu(corner: Callable[..., Tensor], network: nn.Module) -> None:
    volume = corner((40, 47, 33), (slice(3, 17), slice(4, 19), slice(2, 12)))
    with torch.no_grad():
        expected = HeadWindowInferer(16, fill=(10, 0, 0, 0))(volume, network)
        onto = HeadWindowInferer(16, fill=(10, 0, 0, 0), device="cpu")(volume.cuda(), network.cuda())
    assert onto.device.type == "cpu"
    torch.testing.assert_close(onto, expected, rtol=1e-2, atol=1e-2)


def test_a_network_that_changes_nothing_gives_back_the_volume() -> None:
    volume = torch.rand(1, 1, 20, 9, 35, dtype=torch.float64)
    stitched = HeadWindowInferer(16, 1, fill=None)(volume, lambda windows: windows.clone())
    torch.testing.assert_close(stitched, volume)


def test_no_bright_voxel_is_far_where_the_mask_of_the_head_fails() -> None:
    # texture that fills its box leaves the mask no air to compare with: it takes a few of the brightest voxels
    volume = torch.zeros(1, 1, 40, 40, 40)
    volume[..., 4:36, 4:36, 4:36] = 1 + torch.rand(32, 32, 32, generator=torch.Generator().manual_seed(0))
    near = near_head(volume)
    assert near[volume > 0].all()
    assert near.mean() < 0.8
