"""multi_gpu_train.json under torchrun, two processes on the CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

NAMES = ["train.json", "multi_gpu_train.json"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def test_two_processes_train_one_network_in_one_run(
    tmp_path: Path,
    settings_in: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
    only_run: Callable[[Path], Any],
    history: Callable[..., dict[str, list[tuple[int, float]]]],
) -> None:
    settings = settings_in(tmp_path, max_epochs=2, batch_size=4, epoch_length=1)
    done = execute(TORCHRUN + bundle_command(NAMES, settings)[1:])
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in done.stdout
    assert done.stdout.count("Finished epoch 2") == 1
    model = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert {key.split(".")[0] for key in model} == {"encoder", "projector", "reconstructor"}
    assert all(bool(value.isfinite().all()) for value in model.values())
    assert only_run(tmp_path).info.status == "FINISHED"
    assert [step for step, _ in history(tmp_path)["train_loss"]] == [1, 2]


def test_a_batch_that_processes_cannot_share_is_refused(
    tmp_path: Path, settings_in: Callable[..., dict[str, Any]], refusal: Callable[..., str]
) -> None:
    line = refusal(["train.json"], settings_in(tmp_path, batch_size=3, rank=0, world_size=2))
    assert "batch_size=3 cannot be shared by 2 processes" in line


@pytest.mark.slow
def test_torchrun_ends_with_the_line_too(
    tmp_path: Path,
    settings_in: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = execute(TORCHRUN + bundle_command(NAMES, settings_in(tmp_path, batch_size=3))[1:])
    assert done.returncode == 1
    assert "error: batch_size=3 cannot be shared by 2 processes" in done.stderr
    assert not (tmp_path / "models").exists()


def test_the_overlay_alone_needs_no_process_group_to_be_read(
    tmp_path: Path, settings_in: Callable[..., dict[str, Any]], workflow_of: Callable[..., ConfigWorkflow]
) -> None:
    workflow = workflow_of(NAMES, settings_in(tmp_path))
    assert workflow.parser["network"]["_target_"] == "torch.nn.parallel.DistributedDataParallel"
