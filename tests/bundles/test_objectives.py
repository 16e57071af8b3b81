"""The overlays of other objectives: each trains, goes on, is measured and embeds, as the paper's recipe does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.networks.nets import BasicUNet

from scripts.networks.downstream import task_network
from scripts.weights.encoder_state import HEADS
from tests.bundles.conftest import TINY

Settings = Callable[..., dict[str, Any]]
Run = Callable[..., ConfigWorkflow]
Shared = Callable[[str, Callable[[Path], Any]], Any]

# as the tests of the other overlays: two epochs of two steps
ALL: dict[str, Any] = {"max_epochs": 2, "val_interval": 1, "picture_interval": 1, "voxel_projection": [8, 4]}
OVERLAYS: dict[str, tuple[dict[str, Any], set[str], set[str]]] = {
    "maps.json": ({"uncertainty": True}, {"map_head"}, {"maps_l1", "maps_gradient", "maps_laplace"}),
    "dense.json": ({}, {"voxel_projectors"}, {"voxels"}),
    "maps_dense.json": (
        {"contrastive_weight": 0.1, "projector_norm": "batch"},
        {"map_head", "voxel_projectors", "projector"},
        {"maps_l1", "maps_gradient", "voxels", "contrastive"},
    ),
}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def trained_objective(overlay: str, shared: Shared, settings_in: Settings, run_here: Run) -> Path:
    """A training by an overlay, run once for all workers."""

    def make(folder: Path) -> Path:
        run_here(["train.json", overlay], settings_of(overlay, folder, settings_in))
        return folder

    made: Path = shared(f"trained_by_{overlay.removesuffix('.json')}", make)
    return made


def settings_of(overlay: str, folder: Path, settings_in: Settings, **changed: Any) -> dict[str, Any]:
    known = json.loads((Path("bundles/pretrain_seqinv/configs") / overlay).read_text())
    own = {**ALL, **OVERLAYS[overlay][0]}
    own = {name: value for name, value in own.items() if name in known or name in ("projector_norm", *TINY)}
    return settings_in(folder, **own, **{"validate::dataloader::batch_sampler::steps": 1}, **changed)


def test_leaves_weights_losses_and_pictures(
    overlay: str, trained_objective: Path, history: Callable[..., dict[str, list[tuple[int, float]]]]
) -> None:
    _, heads, terms = OVERLAYS[overlay]
    state = torch.load(trained_objective / "models" / "model.pt", weights_only=True)
    assert {key.split(".")[0] for key in state} == {"encoder", "decoder", *heads}
    assert all(key.startswith(("encoder.", *HEADS)) for key in state)
    logged = history(trained_objective)
    assert {name.removeprefix("train_") for name in logged if name.startswith("train_")} == {"loss", *terms}
    assert [step for step, _ in logged["val_loss"]] == [2, 4]
    assert all(0 < value < 100 for _, value in logged["val_loss"])
    assert (trained_objective / "eval" / "views_epoch0002.png").is_file()


def test_its_encoder_is_measured_and_embeds(
    overlay: str, trained_objective: Path, settings_in: Settings, run_here: Run, workflow_of: Run, tmp_path: Path
) -> None:
    shutil.copytree(trained_objective, tmp_path, dirs_exist_ok=True)
    settings = settings_of(overlay, tmp_path, settings_in, anatomies=4)
    run_here(["train.json", overlay, "evaluate.json"], settings)
    table = pd.read_csv(tmp_path / "eval" / "invariance.csv")
    assert set(table["encoder"]) == {"pretrained", "random"}
    own = {"features": TINY["features"], "ckpt_dir": settings["ckpt_dir"], "image": "scan.nii.gz"}
    workflow = workflow_of(["inference.json"], own, "infer")
    network, weights = (workflow.parser.get_parsed_content(name) for name in ("network_def", "weights"))
    assert weights.n_loaded == weights.n_total == 20
    network.load_state_dict(torch.load(weights.path, weights_only=True))  # as monai.bundle.load does


def test_a_task_starts_from_its_decoder(trained_objective: Path) -> None:
    network = BasicUNet(features=(*TINY["features"], 4), act="GELU", norm="instance")
    made = task_network(network, encoder_bundle=trained_objective, encoder_part="decoder")
    assert made.decoder.startswith("24 of 24 tensors from ")
    assert made.variant == "seqinv"


@pytest.mark.parametrize("overlay", ["maps_dense.json"], scope="module")
def test_goes_on_to_the_same_bits(
    overlay: str,
    trained_objective: Path,
    tmp_path: Path,
    settings_in: Settings,
    run_here: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from scripts.handlers import checkpoint

    save = checkpoint.save_tensors

    def fail_at_epoch_2(content: Any, path: Path) -> Path:
        if content.get("epoch") == 2:
            raise OSError("No space left on device")
        return save(content, path)

    settings = settings_of(overlay, tmp_path, settings_in)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_tensors", fail_at_epoch_2)
        with pytest.raises(RuntimeError):
            run_here(["train.json", overlay], settings)
    run_here(["train.json", overlay], settings)
    for name in ("model", "optimizer"):
        ours, theirs = (
            torch.load(folder / "models" / "checkpoint.pt", weights_only=True)[name]
            for folder in (tmp_path, trained_objective)
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
