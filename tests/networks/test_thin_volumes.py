from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer
from torch import nn

from scripts.inferers.autocast import AutocastInferer, has_bfloat16
from scripts.networks import Encoder, PretrainedEncoder
from scripts.networks.recompute import recompute
from scripts.networks.thin_volumes import Float32WhereThin

needs_bfloat16 = pytest.mark.skipif(not has_bfloat16("cpu"), reason="a CPU with bfloat16 of its own")


def _dirty_memory(size: int) -> None:
    """Leave NaN where the next tensors of about that size will lie."""
    for _ in range(3):
        torch.full((size,), float("nan"))


@needs_bfloat16
@pytest.mark.parametrize("sides", [(2, 2, 2), (2, 2, 8), (2, 3, 3), (3, 2, 2), (4, 4, 4)])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_in_bfloat16_are_those_of_float32(sides: tuple[int, ...], threads: int) -> None:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        layer, volume = nn.Conv3d(96, 128, 3, padding=1), torch.randn(2, 96, *sides)
        towards = torch.randn(2, 128, *sides)
        (expected,) = torch.autograd.grad(layer(volume), layer.weight, towards)
        infer = AutocastInferer(SimpleInferer(), amp=True)
        for repeat in range(20):
            _dirty_memory(96 * 128 * 27 // 4 + 1000 * repeat)
            (found,) = torch.autograd.grad(infer(volume, layer), layer.weight, towards.bfloat16())
            assert (found - expected).abs().max() < 0.02 * expected.abs().max()
    finally:
        torch.set_num_threads(before)


def test_others_are_left_to_autocast() -> None:
    layer, thick = nn.Conv3d(2, 2, 3, padding=1), torch.randn(1, 2, 3, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(thick)
        with Float32WhereThin():
            assert torch.equal(layer(thick), expected)
    plain = layer(thick[:, :, :2])
    with Float32WhereThin():
        assert layer(thick).dtype == torch.float32
        assert torch.equal(layer(thick[:, :, :2]), plain)


def test_recomputed_parts_have_the_same_gradients_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.inferers.autocast.has_bfloat16", lambda _: True)
    gradients = []
    for wrap in (lambda network: network, recompute):
        torch.manual_seed(0)
        network = wrap(PretrainedEncoder(Encoder(features=(4, 4, 8, 8, 16), dropout=0.0)))
        views = torch.randn(2, 1, 32, 32, 32)
        infer = AutocastInferer(SimpleInferer(), amp=True)
        found = torch.cat([infer(view[None], network) for view in views]) if not gradients else infer(views, network)
        found.float().square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, plain, rtol=0.05, atol=0.02 * float(plain.abs().max()))
