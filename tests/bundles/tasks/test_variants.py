"""Settings that users change at the command line: encoder, freezing, few labels, the released preprocessing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow
from torch import Tensor

Settings = Callable[..., dict[str, Any]]
ENCODER = ("conv_0", "down_1", "down_2", "down_3", "down_4")


@pytest.fixture
def trained_with(
    tmp_path: Path,
    task_settings: Settings,
    task_configs: Callable[[str], Path],
    run_here: Callable[..., ConfigWorkflow],
) -> Callable[..., dict[str, Tensor]]:
    """Train one epoch of a bundle in this process and return the network's tensors."""

    def train(bundle: str, names: tuple[str, ...] = ("train.json",), **changed: Any) -> dict[str, Tensor]:
        settings = task_settings(bundle, tmp_path, **{"max_epochs": 1, **changed})
        run_here(list(names), settings, folder=task_configs(bundle))
        state: dict[str, Tensor] = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
        return state

    return train


def encoder_change(state: dict[str, Tensor], encoder_bundle: Path) -> float:
    """Largest change of the encoder's tensors against the pretrained ones."""
    given = torch.load(encoder_bundle / "models" / "model.pt", weights_only=True)
    return max(float((state[k.removeprefix("encoder.")] - v).abs().max()) for k, v in given.items())


def test_freeze_false_trains_the_encoder_along(
    trained_with: Callable[..., dict[str, Tensor]], encoder_bundle: Path, tmp_path: Path, only_run: Callable[..., Any]
) -> None:
    assert 0 < encoder_change(trained_with("ixi_denoise", freeze="false"), encoder_bundle) < 0.1
    assert only_run(tmp_path).data.params["frozen"] == "False"


def test_encoder_none_trains_from_scratch(
    trained_with: Callable[..., dict[str, Tensor]], encoder_bundle: Path, tmp_path: Path, only_run: Callable[..., Any]
) -> None:
    state = trained_with("ixi_denoise", encoder="none", encoder_bundle="nowhere")
    assert encoder_change(state, encoder_bundle) > 0.1
    tags = only_run(tmp_path).data.tags
    assert (tags["variant"], tags["encoder_sha"]) == ("scratch", "")


@pytest.mark.parametrize(("fraction", "subjects"), [(0.01, 1), (0.7, 2), (1.0, 3)])
def test_few_labels_are_those_of_the_first_subjects(
    trained_with: Callable[..., dict[str, Tensor]],
    tmp_path: Path,
    only_run: Callable[..., Any],
    fraction: float,
    subjects: int,
) -> None:
    trained_with("ixi_seg", label_fraction=fraction, epoch_length=1)
    run = only_run(tmp_path)
    assert run.data.tags["fraction"] == str(fraction)
    assert len(run.data.params["training_subjects"].split(", ")) == subjects
    assert run.data.params["training_subjects"].startswith("IXI002-Guys-0704")


def test_another_seed_draws_other_subjects(
    task_settings: Settings,
    task_configs: Callable[[str], Path],
    workflow_of: Callable[..., ConfigWorkflow],
    tmp_path: Path,
) -> None:
    drawn = set()
    for seed in range(6):
        settings = task_settings("ixi_denoise", tmp_path, label_fraction=0.01, seed=seed)
        workflow = workflow_of(["train.json"], settings, folder=task_configs("ixi_denoise"))
        workflow.initialize()
        data = workflow.parser.get_parsed_content("data")
        drawn.add(tuple(entry["subject"] for entry in data["training"]))
        assert len(data["training"]) == 1
        if seed == 0:
            assert drawn == {("IXI002-Guys-0704",)}
    assert len(drawn) > 1


def test_the_released_preprocessing_trains_and_evaluates(
    trained_with: Callable[..., dict[str, Tensor]],
    tmp_path: Path,
    task_settings: Settings,
    task_configs: Callable[[str], Path],
    run_here: Callable[..., ConfigWorkflow],
) -> None:
    bundle = "ixi_seg"
    state = trained_with(bundle, ("train.json", "released.json"), max_epochs=1)
    assert all(bool(value.isfinite().all()) for value in state.values())
    names = ["train.json", "released.json", "evaluate.json"]
    workflow = run_here(names, task_settings(bundle, tmp_path), folder=task_configs(bundle))
    assert workflow.parser.get("normalisation") == "volume"
    assert workflow.parser.get("test_normalisation") == "box"
    assert len(pd.read_csv(tmp_path / "eval" / "metrics.csv")) > 0


def test_modality_may_be_crossed_on_purpose_and_has_a_run_of_its_own(
    trained_tasks: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    task_configs: Callable[[str], Path],
    run_here: Callable[..., ConfigWorkflow],
    only_run: Callable[[Path], Any],
) -> None:
    trained = trained_tasks("ixi_denoise")
    shutil.copytree(trained["folder"] / "models", tmp_path / "models")
    before = only_run(trained["folder"]).data.metrics
    settings = {**trained["settings"], "modality": "PDw", "cross_modality": "true"}
    settings |= {"output_dir": str(tmp_path / "eval"), "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}"}
    settings["ckpt_dir"] = str(tmp_path / "models")
    run_here(["train.json", "evaluate.json"], settings, folder=task_configs("ixi_denoise"))
    assert set(pd.read_csv(tmp_path / "eval" / "metrics.csv")["modality"]) == {"PDw"}
    assert only_run(tmp_path).data.tags["modality"] == "PDw"
    assert only_run(trained["folder"]).data.metrics == before
