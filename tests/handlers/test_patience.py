"""Trainings that end once validation has not improved, at once or after an interruption."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events

from scripts.handlers.patience import Patience

SCORES = [0.1, 0.4, 0.3, 0.5, 0.5, 0.2, 0.4, 0.6]


def run(epochs: int | None, floor: int = 1, begin: int = 0, best: tuple[float, int] = (-1, -1)) -> int:
    """Train with scripted validations from an epoch on; return the last epoch."""
    evaluator: Any = SimpleNamespace(state=SimpleNamespace(best_metric=-1, best_metric_epoch=-1))
    engine = Engine(lambda *_: None)

    def go_on(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = begin, begin
        evaluator.state.best_metric, evaluator.state.best_metric_epoch = best

    def validate(engine: Engine) -> None:
        score = SCORES[engine.state.epoch - 1]
        if score > evaluator.state.best_metric:
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = score, engine.state.epoch

    engine.add_event_handler(Events.STARTED, go_on)
    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    Patience(evaluator, epochs, floor).attach(engine)
    engine.run([0], max_epochs=len(SCORES))
    return engine.state.epoch


@pytest.mark.parametrize(
    ("epochs", "floor", "last"),
    [(1, 1, 3), (2, 1, 6), (3, 1, 7), (4, 1, 8), (1, 5, 5), (1, 4, 5), (2, 7, 7), (None, 1, 8)],
)
def test_ends_after_so_many_epochs_without_a_better_one(epochs: int | None, floor: int, last: int) -> None:
    assert run(epochs, floor) == last


@pytest.mark.parametrize("begin", range(1, 7))
def test_interrupted_anywhere_it_ends_at_the_same_epoch(begin: int) -> None:
    score = max(SCORES[:begin])
    assert run(2, begin=begin, best=(score, SCORES.index(score) + 1)) == 6


def test_without_any_validation_it_never_ends() -> None:
    evaluator = SimpleNamespace(state=SimpleNamespace(best_metric_epoch=-1))
    assert not Patience(evaluator, 1).is_over(100)
