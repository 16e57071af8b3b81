"""A killed task training continues to the same bits and keeps its best network."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow


def test_killed_it_ends_with_the_same_bits(
    trained_tasks: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    task_settings: Callable[..., dict[str, Any]],
    task_configs: Callable[[str], Path],
    bundle_command: Callable[..., list[str]],
    kill_when: Callable[..., None],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    bundle, models = "ixi_seg", tmp_path / "models"
    command = bundle_command(["train.json"], task_settings(bundle, tmp_path), folder=task_configs(bundle))
    kill_when(command, models / "checkpoint.pt", at_most=0.2)
    assert torch.load(models / "checkpoint.pt", weights_only=True)["epoch"] < 3
    done = execute(command)
    assert done.returncode == 0, done.stderr
    assert "Continuing after epoch" in done.stdout
    whole = trained_tasks(bundle)["folder"] / "models"
    assert (models / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()
    ours, theirs = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (models, whole))
    for part in ("model", "optimizer"):
        torch.testing.assert_close(ours.pop(part), theirs.pop(part), rtol=0, atol=0)
    assert ours == theirs


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"label_fraction": 0.3}, "label_fraction 1.0 there and 0.3 now"),
        ({"freeze": "false"}, "frozen True there and False now"),
        ({"encoder": "none"}, "variant 'seqinv' there and 'scratch' now"),
    ],
    ids=["fraction", "freeze", "encoder"],
)
def test_a_checkpoint_of_other_settings_is_refused(
    trained_task: dict[str, Any],
    task_configs: Callable[[str], Path],
    refusal: Callable[..., str],
    changed: dict[str, Any],
    told: str,
) -> None:
    folder = task_configs(trained_task["bundle"])
    line = refusal(["train.json"], {**trained_task["settings"], **changed}, folder=folder)
    assert told in line
    assert "--resume false" in line


def test_the_word_false_starts_anew(
    trained_task: dict[str, Any],
    tmp_path: Path,
    task_settings: Callable[..., dict[str, Any]],
    task_configs: Callable[[str], Path],
    run_here: Callable[..., ConfigWorkflow],
) -> None:
    """``--resume false`` reaches the config as a word."""
    import shutil

    bundle = trained_task["bundle"]
    shutil.copytree(trained_task["folder"] / "models", tmp_path / "models")
    settings = task_settings(bundle, tmp_path, resume="false", max_epochs=1, epoch_length=1, batch_size=1)
    run_here(["train.json"], settings, folder=task_configs(bundle))
    assert torch.load(tmp_path / "models" / "checkpoint.pt", weights_only=True)["iteration"] == 1
