"""A killed training continues to the same bits; other settings and damaged checkpoints are refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

Settings = Callable[..., dict[str, Any]]


def test_killed_twice_it_ends_with_the_same_bits(
    trained: dict[str, Any],
    tmp_path: Path,
    settings_in: Settings,
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
    kill_when: Callable[..., None],
    only_run: Callable[[Path], Any],
    history: Callable[..., dict[str, list[tuple[int, float]]]],
) -> None:
    models = tmp_path / "models"
    command = bundle_command(["train.json"], settings_in(tmp_path))
    kill_when(command, models / "mlflow_run.json", at_most=0.2)
    first = only_run(tmp_path).info
    assert first.status == "RUNNING"
    kill_when(command, models / "checkpoint.pt", at_most=0.3)
    assert torch.load(models / "checkpoint.pt", weights_only=True)["epoch"] < 3
    done = execute(command)
    assert done.returncode == 0, done.stderr
    assert "Continuing after epoch" in done.stdout

    whole = trained["folder"]
    assert (models / "model.pt").read_bytes() == (whole / "models" / "model.pt").read_bytes()
    ours, theirs = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (models, whole / "models"))
    for part in ("model", "encoder", "optimizer"):
        torch.testing.assert_close(ours.pop(part), theirs.pop(part), rtol=0, atol=0)
    assert ours == theirs
    assert not [path.name for path in models.iterdir() if path.name.startswith(".model")]
    run = only_run(tmp_path)
    assert run.info.run_id == first.run_id
    assert run.info.status == "FINISHED"
    assert history(tmp_path) == history(whole)


def test_an_end_between_log_and_checkpoint_logs_no_step_twice(
    trained: dict[str, Any],
    tmp_path: Path,
    settings_in: Settings,
    run_here: Callable[..., ConfigWorkflow],
    history: Callable[..., dict[str, list[tuple[int, float]]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worst moment, which a random kill seldom meets: an epoch is logged and its checkpoint not yet written."""
    from scripts.handlers import checkpoint

    save = checkpoint.save_tensors

    def fail_at_epoch_2(content: Any, path: Path) -> Path:
        if content.get("epoch") == 2:
            raise OSError("No space left on device")
        return save(content, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_tensors", fail_at_epoch_2)
        with pytest.raises(RuntimeError) as caught:
            run_here(["train.json"], settings_in(tmp_path))
    assert "No space left" in str(caught.value.__cause__ or caught.value)
    assert [step for step, _ in history(tmp_path)["train_loss"]] == [1, 2, 3, 4]
    run_here(["train.json"], settings_in(tmp_path))
    continued, whole = history(tmp_path), history(trained["folder"])
    assert continued.keys() == whole.keys()
    for name, points in whole.items():
        assert [step for step, _ in continued[name]] == [step for step, _ in points]
        # the other run was a process of one thread, and sums of other numbers of threads round differently
        assert [v for _, v in continued[name]] == pytest.approx([v for _, v in points], rel=1e-3, abs=1e-3)


def test_a_complete_training_says_so_and_changes_nothing(
    copy_of_trained: Path,
    settings_in: Settings,
    run_here: Callable[..., ConfigWorkflow],
    only_run: Callable[[Path], Any],
    history: Callable[..., dict[str, list[tuple[int, float]]]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = {path: path.read_bytes() for path in (copy_of_trained / "models").iterdir()}
    logged, run = history(copy_of_trained), only_run(copy_of_trained)
    with caplog.at_level("INFO", "scripts"):
        run_here(["train.json"], settings_in(copy_of_trained))
    assert "This training is complete (3 epochs)" in caplog.text
    assert {path: path.read_bytes() for path in (copy_of_trained / "models").iterdir()} == before
    assert history(copy_of_trained) == logged
    after = only_run(copy_of_trained)
    assert (after.info.run_id, after.info.status, after.data.tags) == (run.info.run_id, "FINISHED", run.data.tags)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"batch_size": 3}, "batch_size 2 there and 3 now"),
        ({"projection": [16, 4]}, "projection"),
        ({"mode": "base"}, "mode 'seqinv' there and 'base' now"),
    ],
    ids=["batch", "projection", "mode"],
)
def test_a_checkpoint_of_other_settings_is_refused(
    copy_of_trained: Path,
    settings_in: Settings,
    refusal: Callable[..., str],
    only_run: Callable[[Path], Any],
    changed: dict[str, Any],
    told: str,
) -> None:
    before = (copy_of_trained / "models" / "checkpoint.pt").read_bytes()
    line = refusal(["train.json"], settings_in(copy_of_trained, **changed))
    assert str(copy_of_trained / "models" / "checkpoint.pt") in line
    assert told in line
    assert "--resume false" in line
    assert (copy_of_trained / "models" / "checkpoint.pt").read_bytes() == before
    assert only_run(copy_of_trained).info.status == "FINISHED"


def test_a_truncated_checkpoint_is_refused(
    copy_of_trained: Path, settings_in: Settings, refusal: Callable[..., str]
) -> None:
    path = copy_of_trained / "models" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    assert f"{path} is no readable checkpoint" in refusal(["train.json"], settings_in(copy_of_trained))


def test_resume_false_starts_anew_with_a_run_of_its_own(
    copy_of_trained: Path, settings_in: Settings, run_here: Callable[..., ConfigWorkflow]
) -> None:
    from mlflow import MlflowClient

    run_here(["train.json"], settings_in(copy_of_trained, resume=False, max_epochs=1, epoch_length=1))
    saved = torch.load(copy_of_trained / "models" / "checkpoint.pt", weights_only=True)
    assert (saved["epoch"], saved["iteration"]) == (1, 1)
    client = MlflowClient(f"sqlite:///{copy_of_trained / 'mlruns.db'}")
    assert len(client.search_runs([e.experiment_id for e in client.search_experiments()])) == 2
