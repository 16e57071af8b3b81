from __future__ import annotations

import torch
from torch import Tensor, nn

from scripts.losses.tracked import TrackedLoss


def test_tracked_loss_keeps_every_term_and_its_gradient() -> None:
    class Terms(nn.Module):
        def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
            first, second = (prediction - target).square().sum(), prediction.abs().sum()
            return {"loss": first + second, "first": first, "second": second}

    prediction = torch.tensor([1.0, -2.0], requires_grad=True)
    loss = TrackedLoss(Terms())
    loss(prediction, torch.zeros(2)).backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [3.0, -5.0]
    assert {k: float(v) for k, v in loss.terms.items()} == {"loss": 8.0, "first": 5.0, "second": 3.0}
    assert not any(value.requires_grad for value in loss.terms.values())
