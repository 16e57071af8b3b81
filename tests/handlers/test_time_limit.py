from __future__ import annotations

import time

import pytest
from ignite.engine import Engine, Events

from scripts.handlers.time_limit import TimeLimit


def run(limit: TimeLimit, epochs: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Engine, list[float], list[str]]:
    """Run epochs of 30 s each by a clock that the engine advances."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    engine = Engine(lambda _engine, _batch: clock.__setitem__(0, clock[0] + 15.0))
    limit.attach(engine)
    shares: list[float] = []
    ends: list[str] = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: shares.append(limit.share()))
    engine.add_event_handler(Events.COMPLETED, lambda _: ends.append("completed"))
    engine.run([0, 1], max_epochs=epochs)
    return engine, shares, ends


def test_ends_at_the_first_epoch_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, shares, ends = run(TimeLimit(minutes=1.2), 10, monkeypatch)
    assert engine.state.epoch == 3
    assert shares == pytest.approx([30 / 72, 60 / 72, 1.0])
    assert ends == ["completed"]


def test_without_a_limit_nothing_ends_and_no_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, shares, _ = run(TimeLimit(None), 4, monkeypatch)
    assert engine.state.epoch == 4
    assert shares == [0.0] * 4


def test_time_counts_from_the_start_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = TimeLimit(minutes=1)
    assert limit.share() == 0.0
    _, shares, _ = run(limit, 1, monkeypatch)
    assert shares == [0.5]
