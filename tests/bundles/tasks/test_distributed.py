"""multi_gpu_train.json of a downstream bundle under torchrun: two processes train what one trains."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def test_two_processes_take_the_steps_of_one(
    tmp_path: Path,
    task_settings: Callable[..., dict[str, Any]],
    task_configs: Callable[[str], Path],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
    only_run: Callable[[Path], Any],
) -> None:
    """Plain gradient descent, as AdamW turns rounding in a gradient of almost 0 into a step of full size."""
    bundle = "ixi_seg"
    changed = {"optimizer::_target_": "torch.optim.SGD", "dropout": 0.0, "max_epochs": 1, "learning_rate": 0.1}
    states = {}
    for name, launcher, configs in (
        ("one", [], ["train.json"]),
        ("two", TORCHRUN, ["train.json", "multi_gpu_train.json"]),
    ):
        settings = task_settings(bundle, tmp_path / name, **changed)
        command = bundle_command(configs, settings, folder=task_configs(bundle))
        done = execute([*launcher, *command[1:]] if launcher else command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Finished epoch 1") == 1
        assert only_run(tmp_path / name).info.status == "FINISHED"
        states[name] = torch.load(tmp_path / name / "models" / "model.pt", weights_only=True)
    assert "2 process(es)" in done.stdout
    trained = [key for key in states["one"] if key.startswith(("upcat", "final"))]
    assert trained
    for key in trained:
        torch.testing.assert_close(states["two"][key], states["one"][key], rtol=1e-4, atol=1e-5)
