"""What MONAI's tools ask of the bundle: properties, network shapes, export to TorchScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out

from scripts.networks import Encoder, load_encoder

TINY_FEATURES = [4, 4, 8, 8, 8]


@pytest.fixture
def image(tmp_path: Path) -> str:
    volume = np.random.default_rng(0).random((32, 32, 32), dtype=np.float32)
    nib.save(nib.Nifti1Image(volume, np.diag([2, 2, 2, 1])), tmp_path / "image.nii.gz")
    return str(tmp_path / "image.nii.gz")


@pytest.mark.parametrize("names", [["train.json"], ["train.json", "evaluate.json"]], ids=["train", "evaluate"])
def test_training_has_the_properties_that_monai_wants(
    names: list[str],
    trained: dict[str, Any],
    settings_in: Callable[..., dict[str, Any]],
    workflow_of: Callable[..., ConfigWorkflow],
) -> None:
    workflow = workflow_of(names, settings_in(trained["folder"]))
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.max_epochs == 3
    assert workflow.version == "0.1.0"


def test_a_property_that_is_missing_would_be_told(
    trained: dict[str, Any], settings_in: Callable[..., dict[str, Any]], workflow_of: Callable[..., ConfigWorkflow]
) -> None:
    workflow = workflow_of(
        ["train.json"], settings_in(trained["folder"], **{"train::trainer::train_handlers": "@validate::handlers"})
    )
    workflow.initialize()
    assert workflow.check_properties() == ["train_handlers"]


def test_inference_has_the_properties_that_monai_wants(
    image: str, trained: dict[str, Any], workflow_of: Callable[..., ConfigWorkflow]
) -> None:
    settings = {"image": image, "features": TINY_FEATURES, "ckpt_dir": str(trained["folder"] / "models")}
    workflow = workflow_of(["inference.json"], settings, "infer")
    workflow.initialize()
    assert workflow.check_properties() == []


def test_the_network_gives_what_the_metadata_says(root: Path, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    verify_net_in_out("network_def", **files, device="cpu")
    wrong = {"_meta_::network_data_format::outputs::pred::num_channels": 767}
    with pytest.raises(ValueError, match="767"):
        verify_net_in_out("network_def", **files, device="cpu", **wrong)


def test_the_encoder_is_exported_as_the_readme_says(
    trained: dict[str, Any], root: Path, configs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    target = tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        filepath=str(target),
        ckpt_file=str(trained["folder"] / "models" / "model.pt"),
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        features=TINY_FEATURES,
    )
    encoder = Encoder(features=TINY_FEATURES).eval()
    load_encoder(encoder, trained["folder"] / "models" / "model.pt")
    extra = {"metadata.json": "", "inference.json": ""}
    exported = torch.jit.load(str(target), _extra_files=extra).eval()
    image = torch.randn(1, 1, 32, 48, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(image), encoder(image))
    assert b"network_data_format" in extra["metadata.json"]
    assert b"network_def" in extra["inference.json"]
