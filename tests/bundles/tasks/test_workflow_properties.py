"""What MONAI's tools ask of the downstream bundles: properties, network shapes, export to TorchScript."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_net_in_out
from monai.networks.nets import BasicUNet

BUNDLES = ("ixi_seg", "arc_lesion", "ixi_denoise")


@pytest.mark.parametrize("names", [["train.json"], ["train.json", "evaluate.json"]], ids=["train", "evaluate"])
def test_training_has_the_properties_that_monai_wants(
    names: list[str],
    trained_task: dict[str, Any],
    task_configs: Callable[[str], Path],
    workflow_of: Callable[..., ConfigWorkflow],
) -> None:
    workflow = workflow_of(names, trained_task["settings"], folder=task_configs(trained_task["bundle"]))
    workflow.initialize()
    assert workflow.check_properties() == []
    assert workflow.max_epochs == 3


def test_inference_has_the_properties_that_monai_wants(
    trained_task: dict[str, Any],
    heads: dict[str, Path],
    task_configs: Callable[[str], Path],
    workflow_of: Callable[..., ConfigWorkflow],
) -> None:
    image = next(path for path in sorted(heads["ixi_seg"].rglob("IXI*-T1.nii.gz")))
    settings = {
        "image": str(image),
        "features": trained_task["settings"]["features"],
        "ckpt_dir": str(trained_task["folder"] / "models"),
    }
    workflow = workflow_of(["inference.json"], settings, "infer", folder=task_configs(trained_task["bundle"]))
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_network_gives_what_the_metadata_says(
    bundle: str, root: Path, task_configs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    configs = task_configs(bundle)
    files = {"meta_file": str(configs / "metadata.json"), "config_file": str(configs / "inference.json")}
    small = {"features": [4, 4, 8, 8, 8, 4]}
    verify_net_in_out("network_def", **files, device="cpu", **small)
    wrong = {"_meta_::network_data_format::outputs::pred::num_channels": 7}
    with pytest.raises(ValueError, match="7"):
        verify_net_in_out("network_def", **files, device="cpu", **small, **wrong)


def test_the_network_is_exported_as_its_page_says(
    trained_task: dict[str, Any],
    root: Path,
    task_configs: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(root)
    configs, features = task_configs(trained_task["bundle"]), trained_task["settings"]["features"]
    model = trained_task["folder"] / "models" / "model.pt"
    target = tmp_path / "model.ts"
    ckpt_export(
        "network_def",
        filepath=str(target),
        ckpt_file=str(model),
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        features=features,
    )
    exported = torch.jit.load(str(target)).eval()
    state = torch.load(model, weights_only=True)
    network = BasicUNet(
        3, 1, len(state["final_conv.bias"]), features, act="GELU", norm="instance", dropout=0.2, upsample="deconv"
    )
    network.load_state_dict(state)
    image = torch.randn(1, 1, 32, 48, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network.eval()(image))
