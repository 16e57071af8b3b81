"""A training that is killed and goes on, beside one that is left alone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from scripts.benchmark.recipe import TRAIN
from scripts.bundles import ROOT

__all__ = ["kill_and_resume"]

_EPOCHS, _LENGTH = 4, 10


def kill_and_resume(folder: Path, where: torch.device, batch_size: int) -> dict[str, Any]:
    """Train a small encoder twice by ``monai.bundle run``, kill one of them midway, and compare the weights.

    Args:
        folder: for everything; holds the ``cohort``.
        where: device.
        batch_size: anatomies a step.

    Returns:
        ``killed_after`` and ``resumed_after`` (epochs) and ``largest_difference`` of a weight, over the largest weight.
    """
    left, killed = folder / "left-alone", folder / "killed"
    alone = _train(folder, left, where, batch_size)
    process = _train(folder, killed, where, batch_size)
    while process.poll() is None and _epoch(killed) < 2:
        time.sleep(0.3)
    process.kill()
    process.wait()
    at = _epoch(killed)
    again = _train(folder, killed, where, batch_size)
    if again.wait() or alone.wait():
        raise RuntimeError((killed / "log").read_text()[-300:])
    ours, theirs = (torch.load(path / "model.pt", map_location="cpu", weights_only=True) for path in (killed, left))
    scale = max(float(value.abs().max()) for value in theirs.values())
    difference = max(float((ours[name] - value).abs().max()) for name, value in theirs.items())
    return {
        "killed_after": at,
        "of_epochs": _EPOCHS,
        "resumed_after": _epoch(killed),
        "largest_difference": difference / scale,
    }


def _train(work: Path, results: Path, where: torch.device, batch_size: int) -> subprocess.Popen[bytes]:
    settings = {
        "dataset_dir": work / "cohort",
        "work_dir": work,
        "ckpt_dir": results,
        "output_dir": results,
        "tracking_uri": f"sqlite:///{results}/mlruns.db",
        "device": f"$torch.device('{where}')",
        "batch_size": batch_size,
        "patch_size": 32,
        "features": [16, 32, 64, 128, 192],
        "max_epochs": _EPOCHS,
        "epoch_length": _LENGTH,
        "num_workers": 2,
        "initialize": ["$torch.manual_seed(@seed)", "$setattr(torch.backends.cudnn, 'deterministic', True)"],
    }
    results.mkdir(parents=True, exist_ok=True)
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(TRAIN), *options]
    with (results / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def _epoch(results: Path) -> int:
    """Return the epochs that the checkpoint in a folder holds, 0 without one."""
    path = results / "checkpoint.pt"
    return int(torch.load(path, map_location="cpu", weights_only=True)["epoch"]) if path.is_file() else 0
