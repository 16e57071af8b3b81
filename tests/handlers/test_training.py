from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.handlers.training import Attach, GradientClipping, PrepareViews, ProgressBar, StepSeed, TrackedLoss
from scripts.views import generator_for


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
    Attach(bar).attach(engine)
    with pytest.raises(ArithmeticError, match="diverged"):
        engine.run([0])
    assert bar.bar is None


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


def test_views_are_those_of_the_batch_step() -> None:
    asked: list[tuple[int, int]] = []

    def views(maps: Tensor, step: int, rank: int) -> dict[str, Tensor]:
        asked.append((step, rank))
        return {"image": maps + step, "target": maps}

    batch = {"maps": torch.ones(2, 4, 2, 2, 2), "step": torch.tensor([9, 9])}
    image, target = PrepareViews(views)(batch, "cpu", True)  # type: ignore[arg-type]
    assert asked == [(9, 0)]
    torch.testing.assert_close(image, target + 9)
