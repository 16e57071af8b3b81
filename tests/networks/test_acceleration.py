from __future__ import annotations

import logging

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import nn

from scripts.networks.acceleration import ReducedInstanceNorm3d, accelerate

CPU = torch.device("cpu")


def unet() -> BasicUNet:
    torch.manual_seed(0)
    return BasicUNet(3, 1, 2, (4, 4, 4, 4, 4, 4), act="GELU", norm="instance", dropout=0.0, upsample="deconv").eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reduced_norm_is_the_stock_one(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 5, 6, 7, dtype=dtype, requires_grad=True)
    gradients = []
    for norm in (nn.InstanceNorm3d(3), ReducedInstanceNorm3d(3)):
        y = norm(10 + 3 * x)
        gradients.append((y, *torch.autograd.grad((y**3).sum(), x)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_channels_last_changes_no_result_and_no_key() -> None:
    plain, fast = unet(), accelerate(unet(), CPU, channels_last="true")
    x = torch.randn(1, 1, 32, 32, 32)
    assert list(plain.state_dict()) == list(fast.state_dict())
    assert fast.conv_0.conv_1.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-4)


def test_where_compiling_fails_a_line_says_so_and_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler here\nmore")

    def fails(self: nn.Module) -> None:
        self._compiled_call_impl = broken

    monkeypatch.setattr(nn.Module, "compile", fails)
    network = accelerate(unet(), CPU, compiled=True)
    x = torch.randn(1, 1, 32, 32, 32)
    with caplog.at_level(logging.WARNING):
        found = network(x), network(x)
    assert [r.getMessage() for r in caplog.records] == ["torch.compile failed (no compiler here): going on without it"]
    for one in found:
        torch.testing.assert_close(one, unet()(x))
    assert not any(isinstance(module, ReducedInstanceNorm3d) for module in network.modules())
