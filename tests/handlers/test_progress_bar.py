from __future__ import annotations

from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.handlers.progress_bar import ProgressBar
from scripts.losses.tracked import TrackedLoss


def test_the_bar_counts_from_where_a_run_continues(capsys: pytest.CaptureFixture[str]) -> None:
    def step(engine: Engine, batch: int) -> None:
        loss(torch.tensor(2.0), torch.tensor(0.5))

    class Difference(nn.Module):
        def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
            return {"loss": prediction - target}

    loss = TrackedLoss(Difference())
    engine = Engine(step)
    bar = ProgressBar("training", loss)
    bar.attach(engine)
    seen: list[tuple[int, int, int]] = []

    def at_start(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = 1, 5

    engine.add_event_handler(Events.STARTED, at_start)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: seen.append((bar.bar.initial, bar.bar.n, bar.bar.total)))
    engine.run([0] * 5, max_epochs=3)
    assert seen == [(5, 10, 15), (5, 15, 15)]
    assert bar.bar is None
    said = capsys.readouterr().err
    assert "training" in said
    assert "loss=1.500" in said


def test_the_bar_lets_errors_through() -> None:
    def fail(*_: Any) -> None:
        raise ArithmeticError("diverged")

    engine = Engine(fail)
    bar = ProgressBar("training")
    bar.attach(engine)
    with pytest.raises(ArithmeticError, match="diverged"):
        engine.run([0])
    assert bar.bar is None
