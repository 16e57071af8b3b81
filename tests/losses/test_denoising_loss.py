from __future__ import annotations

import pytest
import torch

from scripts.losses import DenoisingLoss


def test_mean_squared_error_of_the_noise() -> None:
    predicted, noise = torch.randn(2, 1, 5, 4, 3), torch.randn(2, 1, 5, 4, 3)
    expected = float(((predicted.double() - noise.double()) ** 2).numpy().mean())
    assert float(DenoisingLoss()(predicted, noise)["loss"]) == pytest.approx(expected, rel=1e-6)
    assert float(DenoisingLoss()(noise, noise)["loss"]) == 0
    half = DenoisingLoss()(predicted.half(), noise)["loss"]
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(expected, rel=1e-3)
