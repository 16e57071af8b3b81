from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from scripts.handlers.gradient_clipping import GradientClipping


@pytest.mark.parametrize("max_norm", [0.5, 1e6], ids=["clips", "leaves"])
def test_gradients_are_clipped_together(max_norm: float) -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    network(torch.ones(2, 4)).sum().backward()
    before = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    norm = torch.cat([g.flatten() for g in before]).norm()
    assert 0.5 < float(norm) < 1e6
    GradientClipping(max_norm)(SimpleNamespace(scaler=None, network=network, optimizer=None))
    share = min(1.0, max_norm / float(norm))
    after = [p.grad for p in network.parameters()]
    torch.testing.assert_close(after, [g * share for g in before], rtol=1e-5, atol=1e-7)


def test_scaled_gradients_are_unscaled_before_they_are_clipped() -> None:
    network = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(network.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(network(torch.ones(2, 4)).sum()).backward()
    GradientClipping(1.5)(SimpleNamespace(scaler=scaler, network=network, optimizer=optimizer))
    got = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
    plain = torch.tensor([2.0] * 15)  # two rows of ones: the gradient of each weight and bias is 2
    torch.testing.assert_close(got, plain * 1.5 / plain.norm(), rtol=1e-5, atol=0)
