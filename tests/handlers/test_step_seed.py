from __future__ import annotations

import torch
from ignite.engine import Engine
from torch import Tensor

from scripts.handlers.step_seed import StepSeed
from scripts.views import generator_for


def test_each_step_has_its_own_seed_whatever_came_before() -> None:
    drawn: list[Tensor] = []
    engine = Engine(lambda *_: drawn.append(torch.rand(3)))
    StepSeed(7).attach(engine)
    engine.run([0] * 3, max_epochs=2)
    torch.manual_seed(123)
    again = Engine(lambda *_: drawn.append(torch.rand(3)))
    StepSeed(7).attach(again)
    again.run([0] * 3, max_epochs=2)
    torch.testing.assert_close(drawn[:6], drawn[6:], rtol=0, atol=0)
    assert len({float(d[0]) for d in drawn[:6]}) == 6
    torch.manual_seed(generator_for(7, 4, 0).initial_seed())
    torch.testing.assert_close(torch.rand(3), drawn[3], rtol=0, atol=0)
