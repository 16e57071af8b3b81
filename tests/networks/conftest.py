from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from scripts.networks import Encoder, PretrainNet, Projector, Reconstructor

WIDTHS = (2, 3, 4, 5, 6)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_net() -> Callable[..., PretrainNet]:
    def make(pooling: str = "mean", widths: tuple[int, ...] = WIDTHS) -> PretrainNet:
        return PretrainNet(
            Encoder(features=widths), Projector(widths, 8, 7, pooling), Reconstructor(widths, (6, 5, 4, 3))
        )

    return make
