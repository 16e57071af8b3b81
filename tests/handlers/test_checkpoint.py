from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.handlers.checkpoint import Checkpointing, save_tensors
from scripts.io.files import atomic_write


def test_a_failing_writer_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    atomic_write(path, lambda part: part.write_text("old"))

    def fail(part: Path) -> None:
        part.write_text("half of the n", encoding="utf-8")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    seen = []

    def write(part: Path) -> None:
        part.write_text("new", encoding="utf-8")
        seen.append(path.read_text())

    atomic_write(path, write)
    assert (seen, path.read_text()) == (["old"], "new")


def test_the_same_tensors_give_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    content = {"a": torch.arange(6.0), "b": {"c": torch.ones(2)}}
    first, second = (save_tensors(content, tmp_path / name).read_bytes() for name in ("model.pt", "other.pt"))
    assert first == second
    torch.testing.assert_close(torch.load(tmp_path / "other.pt", weights_only=True), content)


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.projector = nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))


def training(
    folder: Path, lr: float = 0.1, validation: Callable[[Engine, nn.Module], Any] | None = None, **options: Any
) -> tuple[Checkpointing, Engine, nn.Module]:
    """A training of a few random steps that a checkpoint can interrupt at any epoch."""
    torch.manual_seed(0)
    network = Part()
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def step(engine: Engine, batch: int) -> None:
        torch.manual_seed(engine.state.iteration)
        optimizer.zero_grad()
        network.projector(network.encoder(torch.randn(4, 3))).square().mean().backward()
        optimizer.step()

    engine: Any = Engine(step)
    engine.scaler = None
    sampler = SimpleNamespace(start=-1)
    if validation is not None:
        options["evaluator"] = validation(engine, network)
    saving = Checkpointing(folder, network, optimizer, schedule, sampler, {"lr": lr, "size": (3, 2)}, **options)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: schedule.step())
    saving.attach(engine)
    return saving, engine, network


def test_continues_to_the_same_weights(tmp_path: Path) -> None:
    _, engine, whole = training(tmp_path / "whole")
    engine.run([0, 0], max_epochs=4)
    training(tmp_path / "parts")[1].run([0, 0], max_epochs=2)
    saving, engine, resumed = training(tmp_path / "parts")
    engine.run([0, 0], max_epochs=4)
    assert saving.resumed_epoch == 2
    assert saving.sampler.start == 4
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert saving.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**4)


def test_interval_and_last_epoch(tmp_path: Path) -> None:
    saving, engine, _ = training(tmp_path, interval=2)
    saved = []
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda _: saved.append(saving.path.is_file() and torch.load(saving.path)["epoch"])
    )
    engine.run([0], max_epochs=3)
    assert saved == [False, 2, 3]


def test_a_training_that_ends_before_its_time_saves_its_last_epoch(tmp_path: Path) -> None:
    saving, engine, network = training(tmp_path, interval=4)
    engine.add_event_handler(Events.EPOCH_COMPLETED(once=3), lambda engine: engine.terminate())
    engine.run([0], max_epochs=8)
    saved = torch.load(saving.path, weights_only=True)
    assert saved["epoch"] == 3
    torch.testing.assert_close(saved["model"], network.state_dict(), rtol=0, atol=0)


def test_the_encoder_alone_shares_its_tensors_with_the_model(tmp_path: Path) -> None:
    saving, engine, network = training(tmp_path)
    engine.run([0], max_epochs=1)
    content = torch.load(saving.path, weights_only=True)
    torch.testing.assert_close(content["encoder"], dict(network.encoder.state_dict()))  # type: ignore[union-attr]
    assert content["encoder"]["weight"].data_ptr() == content["model"]["encoder.weight"].data_ptr()


def test_settings_compare_as_json_does(tmp_path: Path) -> None:
    training(tmp_path)[1].run([0], max_epochs=1)
    assert training(tmp_path)[0].read() is not None
    assert training(tmp_path, resume=False)[0].read() is None
    with pytest.raises(InputError, match=r"lr 0\.1 there and 0\.2 now.*--resume false"):
        training(tmp_path, lr=0.2)[0].read()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"], ids=["empty", "text", "zip"])
def test_an_unreadable_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    saving = training(tmp_path)[0]
    saving.path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt is no readable checkpoint"):
        saving.read()


class Scripted(Metric):
    """A metric whose values are known beforehand, one for each validation."""

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)
        super().__init__(output_transform=lambda _: (0.0, 0.0))

    def reset(self) -> None: ...

    def update(self, output: Any) -> None: ...

    def compute(self) -> float:
        return next(self.values)


def validated(
    folder: Path, values: list[float], epochs: int, *, every: int = 1, **options: Any
) -> tuple[Checkpointing, list[dict[str, Tensor]]]:
    """Run a training with MONAI's evaluator; return what saved it and the weights after each epoch."""
    weights: list[dict[str, Tensor]] = []

    def validation(engine: Engine, network: nn.Module) -> SupervisedEvaluator:
        batch = {"image": torch.zeros(1, 3), "label": torch.zeros(1, 1)}
        metric = {"score": Scripted(values)}
        evaluator = SupervisedEvaluator(torch.device("cpu"), [batch], network, key_val_metric=metric, decollate=False)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: weights.append(deepcopy(network.state_dict())))
        if values:
            ValidationHandler(every, evaluator).attach(engine)
        return evaluator

    saving, engine, _ = training(folder, validation=validation, **options)
    engine.run([0, 0], max_epochs=epochs)
    return saving, weights


def assert_saved(path: Path, weights: dict[str, Tensor]) -> None:
    saved = torch.load(path, weights_only=True)
    torch.testing.assert_close(saved.get("model", saved), weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.5, 0.8, 0.3, 0.6], 2), ([0.1, 0.2, 0.3, 0.4], 4), ([0.9, 0.9, 0.1, 0.9], 1), ([0.0, 0.0, 0.0, 0.0], 1)],
    ids=str,
)
@pytest.mark.parametrize("interval", [1, 3])
def test_the_model_is_the_best_and_the_checkpoint_the_last(
    tmp_path: Path, values: list[float], best: int, interval: int
) -> None:
    saving, weights = validated(tmp_path, values, 4, interval=interval)
    assert_saved(saving.model_path, weights[best - 1])
    assert_saved(saving.path, weights[3])
    content = torch.load(saving.path, weights_only=True)
    assert content["best"] == {"metric": values[best - 1], "epoch": best}
    assert content["epoch"] == 4


def test_between_validations_the_best_stays(tmp_path: Path) -> None:
    """Validated after epochs 2 and 4; before the first validation the last model is the best there is."""
    saving, weights = validated(tmp_path / "a", [0.7, 0.2], 5, every=2)
    assert_saved(saving.model_path, weights[1])
    saving, weights = validated(tmp_path / "b", [0.7], 1, every=2)
    assert_saved(saving.model_path, weights[0])


@pytest.mark.parametrize(
    ("values", "best"), [([0.5, 0.6], 1), ([0.5, 0.9], 4), ([0.9, 0.6], 3)], ids=["kept", "later", "next"]
)
def test_a_resumed_run_keeps_the_best(tmp_path: Path, values: list[float], best: int) -> None:
    _, weights = validated(tmp_path, [0.8, 0.3], 2)
    saving, more = validated(tmp_path, values, 4)
    assert saving.resumed_epoch == 2
    assert len(more) == 2
    assert_saved(saving.model_path, [*weights, *more][best - 1])
    assert_saved(saving.path, more[-1])
    whole, _ = validated(tmp_path / "whole", [0.8, 0.3, *values], 4)
    for name in ("model.pt", "checkpoint.pt"):
        assert (whole.directory / name).read_bytes() == (saving.directory / name).read_bytes()


@pytest.mark.parametrize("values", [[], [float("nan")] * 3], ids=["no data", "no number"])
def test_without_a_metric_the_model_is_the_last(tmp_path: Path, values: list[float]) -> None:
    saving, weights = validated(tmp_path, values, 3)
    assert_saved(saving.model_path, weights[2])
    assert torch.load(saving.path, weights_only=True)["best"]["epoch"] == -1
    saving, weights = validated(tmp_path, values, 4)
    assert saving.resumed_epoch == 3
    assert_saved(saving.model_path, weights[0])


def test_a_first_metric_that_is_no_number_is_no_best(tmp_path: Path) -> None:
    saving, weights = validated(tmp_path, [float("nan"), 0.4, 0.3, float("nan")], 4)
    assert_saved(saving.model_path, weights[1])
    assert torch.load(saving.path, weights_only=True)["best"] == {"metric": 0.4, "epoch": 2}


@pytest.mark.parametrize(("word", "epochs"), [("false", 0), ("no", 0), ("0", 0), ("true", 2), (True, 2), (False, 0)])
def test_resume_as_the_command_line_gives_it(tmp_path: Path, word: Any, epochs: int) -> None:
    training(tmp_path)[1].run([0, 0], max_epochs=2)
    saving, engine, _ = training(tmp_path, resume=word)
    engine.run([0, 0], max_epochs=3)
    assert saving.resumed_epoch == epochs
    assert saving.sampler.start == 2 * epochs


def test_resume_that_is_no_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"resume='perhaps' is neither true nor false: type --resume true"):
        training(tmp_path, resume="perhaps")
