from __future__ import annotations

import torch
from torch import Tensor

from scripts.views.prepare_batch import PrepareViews


def test_views_are_those_of_the_batch_step() -> None:
    asked: list[tuple[int, int]] = []

    def views(maps: Tensor, step: int, rank: int) -> dict[str, Tensor]:
        asked.append((step, rank))
        return {"image": maps + step, "target": maps}

    batch = {"maps": torch.ones(2, 4, 2, 2, 2), "step": torch.tensor([9, 9])}
    image, target = PrepareViews(views)(batch, "cpu", True)  # type: ignore[arg-type]
    assert asked == [(9, 0)]
    torch.testing.assert_close(image, target + 9)
