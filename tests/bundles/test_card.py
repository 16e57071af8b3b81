"""The card's command: what it leaves behind, from the root and from inside the bundle."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor


def test_tells_what_it_does_and_where_things_lie(trained: dict[str, Any]) -> None:
    said, folder = trained["stdout"], trained["folder"]
    assert "Pretraining seqinv: 2 views of each of 2 anatomies a step, 32^3 voxels" in said
    assert "6 steps to do (epochs 1 to 3)" in said
    for path in (folder / "models" / "model.pt", folder / "models" / "checkpoint.pt"):
        assert str(path) in said
        assert path.is_file()
    assert "evaluate.json" in said[said.index("Next") :]
    assert "pretraining seqinv: 100%" in trained["stderr"]


def test_weights_are_tensors_alone(trained: dict[str, Any]) -> None:
    model = torch.load(trained["folder"] / "models" / "model.pt", weights_only=True)
    assert {key.split(".")[0] for key in model} == {"encoder", "projector", "reconstructor"}
    assert all(isinstance(value, Tensor) and bool(value.isfinite().all()) for value in model.values())
    checkpoint = torch.load(trained["folder"] / "models" / "checkpoint.pt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["iteration"]) == (3, 6)
    torch.testing.assert_close(checkpoint["model"], model, rtol=0, atol=0)
    moments = checkpoint["optimizer"]["state"]
    assert len(moments) == len(checkpoint["optimizer"]["param_groups"][0]["params"])
    assert {float(state["step"]) for state in moments.values()} == {6.0}


def test_run_is_finished_named_tagged_and_has_its_parameters(
    trained: dict[str, Any], only_run: Callable[[Path], Any]
) -> None:
    run = only_run(trained["folder"])
    assert run.info.status == "FINISHED"
    assert re.fullmatch(r"pretrain-seqinv-\d{8}-\d{6}-[0-9a-f]{4}", run.info.run_name)
    model = (trained["folder"] / "models" / "model.pt").read_bytes()
    expected = {
        "task": "pretrain",
        "variant": "seqinv",
        "modality": "qmri",
        "fraction": "1.0",
        "seed": "0",
        "cohort": "embedded",
        "encoder_sha": hashlib.sha256(model).hexdigest(),
    }
    assert {key: run.data.tags.get(key) for key in expected} == expected
    params = {"batch_size": "2", "patch_size": "32", "max_epochs": "3", "epoch_length": "2", "dropout": "0.2"}
    assert {key: run.data.params.get(key) for key in params} == params


def test_every_step_is_logged_once(
    trained: dict[str, Any], history: Callable[..., dict[str, list[tuple[int, float]]]]
) -> None:
    logged = history(trained["folder"])
    for name in ("train_loss", "train_contrastive", "train_l1"):
        assert [step for step, _ in logged[name]] == [1, 2, 3, 4, 5, 6], name
    assert [step for step, _ in logged["val_loss"]] == [4]
    assert logged["epoch"] == [(2, 1.0), (4, 2.0), (6, 3.0)]
    rates = [rate for _, rate in logged["learning_rate"]]
    torch.testing.assert_close(rates, [1e-3 * (1 - e / 3) ** 0.9 for e in (1, 2, 3)])


def test_artifacts_hold_the_merged_config_and_pictures(
    trained: dict[str, Any], only_run: Callable[[Path], Any]
) -> None:
    artifacts = Path(urlparse(only_run(trained["folder"]).info.artifact_uri).path)
    config = json.loads((artifacts / "config.json").read_text())
    assert config["features"] == [4, 4, 8, 8, 8]
    assert config["learning_rate"] == 0.001
    assert config["train"]["trainer"]["max_epochs"] == "@max_epochs"
    names = {path.name for path in (artifacts / "views").iterdir()}
    assert names == {f"views_epoch{epoch:04d}.{kind}" for epoch in (1, 2, 3) for kind in ("png", "json")}
    views = json.loads((artifacts / "views" / "views_epoch0001.json").read_text())
    assert len(views["protocols"]) == 4
    for b in (0, 1):
        assert views["protocols"][b]["sequence"] != views["protocols"][2 + b]["sequence"]


def test_runs_from_inside_the_bundle(
    tmp_path: Path,
    root: Path,
    configs: Path,
    settings_in: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    settings = settings_in(tmp_path, max_epochs=1, epoch_length=1, mode="base")
    command = bundle_command(["train.json"], settings, folder=Path("configs"))
    done = execute(command, cwd=root / configs.parent, anew=True)
    assert done.returncode == 0, done.stderr
    assert torch.load(tmp_path / "models" / "checkpoint.pt", weights_only=True)["iteration"] == 1
