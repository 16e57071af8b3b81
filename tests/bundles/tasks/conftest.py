"""Tiny cohorts of heads, a tiny encoder, and one tiny training and evaluation of every downstream bundle."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.networks import Encoder

Shared = Callable[[str, Callable[[Path], Any]], Any]
BUNDLES = ("ixi_seg", "arc_lesion", "ixi_denoise")
WIDTHS = [4, 4, 8, 8, 8]

TINY: dict[str, Any] = {
    "features": [*WIDTHS, 4],
    "patch_size": 32,
    "spacing": 4.0,
    "epoch_length": 2,
    "max_epochs": 3,
    "val_interval": 1,
    "num_workers": 0,
    "overlap": 0.25,
}


def configs_of(bundle: str) -> Path:
    return Path("bundles") / bundle / "configs"


@pytest.fixture(scope="session")
def heads(small_cohorts: dict[str, Path]) -> dict[str, Path]:
    """Five heads of Guys, one of HH, one of IOP, and seven with a lesion, at 4 mm."""
    return {"ixi_seg": small_cohorts["ixi"], "ixi_denoise": small_cohorts["ixi"], "arc_lesion": small_cohorts["arc"]}


@pytest.fixture(scope="session")
def encoder_bundle(shared: Shared) -> Path:
    """A pretraining's folder: weights of a random tiny encoder, and a checkpoint that tells their mode."""

    def make(folder: Path) -> Path:
        (folder / "models").mkdir()
        torch.manual_seed(7)
        state = {f"encoder.{key}": value for key, value in Encoder(features=WIDTHS).state_dict().items()}
        torch.save(state, folder / "models" / "model.pt")
        torch.save({"settings": {"mode": "seqinv"}}, folder / "models" / "checkpoint.pt")
        return folder

    made: Path = shared("pretrained", make)
    return made


@pytest.fixture(scope="session")
def task_settings(heads: dict[str, Path], encoder_bundle: Path) -> Callable[..., dict[str, Any]]:
    """Overrides of a tiny run of a bundle that writes below one folder and nowhere else."""

    def settings(bundle: str, folder: Path, **changed: Any) -> dict[str, Any]:
        places = {
            "dataset_dir": str(heads[bundle]),
            "encoder_bundle": str(encoder_bundle),
            "work_dir": str(folder / "data"),
            "output_dir": str(folder / "eval"),
            "ckpt_dir": str(folder / "models"),
            "tracking_uri": f"sqlite:///{folder / 'mlruns.db'}",
        }
        return {**TINY, **places, **changed}

    return settings


@pytest.fixture(scope="session")
def trained_tasks(
    shared: Shared,
    task_settings: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[[str], dict[str, Any]]:
    """What the card's two commands of a bundle leave behind, each run once in a process of its own."""

    def train(bundle: str, folder: Path) -> dict[str, Any]:
        settings = task_settings(bundle, folder)
        said = []
        for names in (["train.json"], ["train.json", "evaluate.json"]):
            done = execute(bundle_command(names, settings, folder=configs_of(bundle)))
            assert done.returncode == 0, done.stderr
            said.append(done.stdout + done.stderr)
        return {"bundle": bundle, "folder": folder, "settings": settings, "trained": said[0], "evaluated": said[1]}

    return lambda bundle: shared(f"trained_{bundle}", lambda folder: train(bundle, folder))


@pytest.fixture(scope="session", params=BUNDLES)
def trained_task(request: pytest.FixtureRequest, trained_tasks: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """What the two commands of each bundle leave behind."""
    return trained_tasks(request.param)


@pytest.fixture(scope="session")
def task_configs() -> Callable[[str], Path]:
    """The folder of a bundle's configs, relative to the repository's root as users type it."""
    return configs_of
