"""The commands on a downstream bundle's page: train, evaluate, and what they leave behind."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pandas as pd
import torch
from monai.networks.nets import BasicUNet

WORDS = {"ixi_seg": "tissue segmentation", "arc_lesion": "lesion segmentation", "ixi_denoise": "denoising"}
CHANNELS = {"ixi_seg": 4, "arc_lesion": 2, "ixi_denoise": 1}
METRICS = {
    "ixi_seg": {"DSC", "HD95", "empty_prediction", "empty_truth", "volume_prediction", "volume_truth"},
    "arc_lesion": {"DSC", "HD95", "empty_prediction", "empty_truth", "volume_prediction", "volume_truth"},
    "ixi_denoise": {
        *("PSNR", "PSNR_range", "PSNR_head", "SSIM", "PSNR_gain"),
        *("PSNR_noisy", "PSNR_range_noisy", "PSNR_head_noisy", "SSIM_noisy"),
    },
}


def test_tells_what_it_does_and_where_things_lie(trained_task: dict[str, Any]) -> None:
    said, folder = trained_task["trained"], trained_task["folder"]
    assert f"Training {WORDS[trained_task['bundle']]} on T" in said
    assert "20 of 20 encoder tensors from" in said
    assert "6 steps to do (epochs 1 to 3)" in said
    assert re.search(r"best validation val_(dice|mse) [\d.]+, epoch [123]", said)
    for path in (folder / "models" / "model.pt", folder / "models" / "checkpoint.pt"):
        assert str(path) in said
        assert path.is_file()
    assert "evaluate.json" in said[said.index("Next") :]
    assert "embedded cohort" in said


def test_weights_fit_the_stock_network_and_hold_the_encoder_untouched(
    trained_task: dict[str, Any], encoder_bundle: Path
) -> None:
    bundle = trained_task["bundle"]
    network = BasicUNet(
        3, 1, CHANNELS[bundle], trained_task["settings"]["features"], act="GELU", norm="instance", upsample="deconv"
    )
    state = torch.load(trained_task["folder"] / "models" / "model.pt", weights_only=True)
    network.load_state_dict(state)
    given = torch.load(encoder_bundle / "models" / "model.pt", weights_only=True)
    assert len(given) == 20
    for name, value in given.items():
        torch.testing.assert_close(state[name.removeprefix("encoder.")], value, rtol=0, atol=0)


def test_run_is_finished_and_tagged(
    trained_task: dict[str, Any], encoder_bundle: Path, only_run: Callable[[Path], Any]
) -> None:
    run = only_run(trained_task["folder"])
    assert run.info.status == "FINISHED"
    content = (encoder_bundle / "models" / "model.pt").read_bytes()
    expected = {
        "task": trained_task["bundle"],
        "variant": "seqinv",
        "modality": "T2w" if trained_task["bundle"] == "arc_lesion" else "T1w",
        "fraction": "1.0",
        "seed": "0",
        "cohort": "embedded",
        "encoder_sha": hashlib.sha256(content).hexdigest(),
    }
    assert {key: run.data.tags.get(key) for key in expected} == expected
    model = (trained_task["folder"] / "models" / "model.pt").read_bytes()
    assert run.data.tags["model_sha"] == hashlib.sha256(model).hexdigest()
    artifacts = Path(urlparse(run.info.artifact_uri).path)
    assert json.loads((artifacts / "config.json").read_text())["patch_size"] == 32
    assert [name for name in run.data.metrics if name.startswith("test/")]


def test_steps_and_validations_are_logged(
    trained_task: dict[str, Any], history: Callable[..., dict[str, list[tuple[int, float]]]]
) -> None:
    logged = history(trained_task["folder"])
    assert [step for step, _ in logged["train_loss"]] == [1, 2, 3, 4, 5, 6]
    name = "val_mse" if trained_task["bundle"] == "ixi_denoise" else "val_dice"
    assert [step for step, _ in logged[name]] == [2, 4, 6]
    best = (min if name == "val_mse" else max)(value for _, value in logged[name])
    saved = torch.load(trained_task["folder"] / "models" / "checkpoint.pt", weights_only=True)["best"]
    np.testing.assert_allclose(saved["metric"], best, rtol=1e-6)


def test_the_table_has_every_test_subject_class_and_metric(trained_task: dict[str, Any]) -> None:
    bundle, folder = trained_task["bundle"], trained_task["folder"]
    table = pd.read_csv(folder / "eval" / "metrics.csv")
    assert list(table.columns) == ["subject", "site", "modality", "class", "metric", "value"]
    (modality,) = set(table["modality"])
    split_name = f"split-{modality}.json" if bundle == "arc_lesion" else "split.json"
    split = json.loads((folder / "data" / split_name).read_text())
    assert set(table["subject"]) == set(split["test"])
    assert set(table["metric"]) == METRICS[bundle]
    classes = {"ixi_seg": 3, "arc_lesion": 1, "ixi_denoise": 1}[bundle]
    assert len(table) == len(split["test"]) * classes * len(METRICS[bundle])
    assert np.isfinite(table["value"]).all()
    assert set(table["site"]) == ({"ARC"} if bundle == "arc_lesion" else {"Guys", "HH", "IOP"})
    summary = pd.read_csv(folder / "eval" / "summary.csv")
    for site, metric in table[["site", "metric"]].drop_duplicates().itertuples(index=False):
        rows = table[(table["site"] == site) & (table["metric"] == metric)]
        for name, values in rows.groupby("class")["value"]:
            told = summary[(summary["site"] == site) & (summary["metric"] == metric) & (summary["class"] == name)]
            np.testing.assert_allclose(told["mean"].item(), values.mean(), rtol=1e-6)
    assert list((folder / "eval").glob("overlay_*.png"))


def test_noise_of_the_evaluation_is_that_of_the_paper(trained_task: dict[str, Any]) -> None:
    if trained_task["bundle"] != "ixi_denoise":
        return
    table = pd.read_csv(trained_task["folder"] / "eval" / "metrics.csv")
    noisy = table[table["metric"] == "PSNR_noisy"]["value"]
    np.testing.assert_allclose(noisy, 20 * np.log10(1 / 0.2), atol=0.1)
