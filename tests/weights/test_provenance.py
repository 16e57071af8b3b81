"""Where weights come from, as the files beside them tell."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.package.bake import bake_settings
from scripts.weights.provenance import file_sha256, provenance_of, voxel_spacing, weights_file

SETTINGS: dict[str, Any] = {"mode": "seqinv", "seed": 2, "channels": "[4, 4]", "protocols": "paper"}
SUMMARY = """site,modality,class,metric,n,mean,standard_error,low,high,total
ARC,T2w,lesion,DSC,3,0.5,0.125,0.4,0.6,
ARC,T2w,lesion,HD95,3,9.5,0.125,9.4,9.6,
ARC,T1w,lesion,DSC,0,,,,,
"""
INVARIANCE = """metric,level,value,low,high,chance,better,n,encoder,cohort
retrieval_top1,pooled,0.75,0.7,0.8,0.01,higher,96,pretrained,embedded
retrieval_top1,pooled,0.25,0.2,0.3,0.01,higher,96,random,embedded
retrieval_top1,dense,0.5,0.4,0.6,0.002,higher,96,pretrained,embedded
alignment,pooled,0.1,0.0,0.2,0.5,lower,96,pretrained,embedded
tissue_r2_across_sequences,dense,,,,0,higher,0,pretrained,embedded
"""


def tensors(seed: int = 0, size: int = 3) -> dict[str, Tensor]:
    return {"encoder.weight": torch.randn(size, generator=torch.Generator().manual_seed(seed))}


def touch(path: Path, seconds: float = 0.0) -> Path:
    """Write an empty file, or set the time of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9 + seconds, 1e9 + seconds))
    return path


def trained(folder: Path, **saved: Any) -> Path:
    """Write model.pt and checkpoint.pt, and return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors(), folder / "model.pt")
    content = {"model": tensors(), "epoch": 4, "iteration": 80, "best": {"metric": 0.0, "epoch": -1}}
    torch.save({**content, "settings": SETTINGS, **saved}, folder / "checkpoint.pt")
    return touch(folder / "model.pt")


def test_weights_are_found_where_bundles_demos_and_runs_have_them(tmp_path: Path) -> None:
    bundle = tmp_path / "checkout" / "ixi_seg"
    encoder = tmp_path / "checkout" / "pretrain_seqinv"
    assert weights_file(bundle) is None
    own = touch(bundle / "models" / "model.pt")
    assert weights_file(bundle) == own
    demo = tmp_path / "demo"
    first, task = touch(demo / "models" / "model.pt"), touch(demo / "ixi_seg" / "models" / "model.pt")
    assert weights_file(encoder, demo) == first
    assert weights_file(bundle, demo) == task
    assert weights_file(bundle, str(task)) == task
    run = touch(tmp_path / "runs" / "ixi_seg-base" / "models" / "model.pt")
    assert weights_file(bundle, tmp_path / "runs" / "ixi_seg-base") == run
    assert weights_file(bundle, run.parent) == run


def test_a_demos_encoder_is_not_taken_for_a_tasks_weights(tmp_path: Path) -> None:
    touch(tmp_path / "models" / "model.pt")
    touch(tmp_path / "ixi_seg" / "models" / "model.pt")
    with pytest.raises(InputError, match=r"holds no weights for arc_lesion: there is no .*arc_lesion/models/model\.pt"):
        weights_file(Path("bundles/arc_lesion"), tmp_path)
    with pytest.raises(InputError, match="none holds no weights for arc_lesion: it does not exist"):
        weights_file(Path("bundles/arc_lesion"), tmp_path / "none")


def test_the_checkpoint_beside_tells_the_training(tmp_path: Path) -> None:
    path = trained(tmp_path / "models")
    found = provenance_of(path, "pretrain_seqinv")
    assert (found.path, found.sha256) == (path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert (found.settings, found.epoch, found.steps, found.scores, found.note) == (SETTINGS, 4, 80, {}, "")
    metadata = found.as_metadata()
    assert metadata == {
        "weights_sha256": found.sha256,
        "epoch": 4,
        "mode": "seqinv",
        "seed": 2,
        "evaluation": {},
    }


def test_the_best_epoch_is_that_of_the_weights(tmp_path: Path) -> None:
    path = trained(tmp_path, model=tensors(1), best={"metric": 0.5, "epoch": 3})
    found = provenance_of(path, "ixi_seg")
    assert (found.epoch, found.steps, found.settings["mode"]) == (3, 60, "seqinv")
    last = provenance_of(tmp_path / "checkpoint.pt", "ixi_seg")
    assert (last.epoch, last.steps) == (4, 80)


@pytest.mark.parametrize(
    "saved",
    [
        {"model": tensors(1)},
        {"model": tensors(1), "best": {"metric": 0.5, "epoch": 4}},
        {"model": tensors(1, size=4), "best": {"metric": 0.5, "epoch": 3}},
        {"model": {"other": torch.ones(3)}, "best": {"metric": 0.5, "epoch": 3}},
    ],
    ids=["values", "values of the best", "shape", "name"],
)
def test_a_checkpoint_of_other_weights_tells_nothing(saved: dict[str, Any], tmp_path: Path) -> None:
    found = provenance_of(trained(tmp_path, **saved), "pretrain_seqinv")
    assert (found.settings, found.epoch, found.steps) == ({}, 0, 0)
    assert "is of other weights" in found.note


def test_other_names_do_not_take_the_checkpoint_for_theirs(tmp_path: Path) -> None:
    path = trained(tmp_path).rename(tmp_path / "published.pth")
    found = provenance_of(path, "pretrain_seqinv")
    assert (found.settings, found.note) == ({}, "")
    assert found.sha256 == file_sha256(path)


@pytest.mark.parametrize("content", [b"half a file", b""])
def test_a_damaged_checkpoint_is_told(content: bytes, tmp_path: Path) -> None:
    path = trained(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged, or no checkpoint of this project"):
        provenance_of(path, "pretrain_seqinv")
    torch.save({"epoch": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged, or no checkpoint of this project"):
        provenance_of(path, "pretrain_seqinv")


def test_damaged_and_missing_weights_are_told(tmp_path: Path) -> None:
    path = trained(tmp_path)
    path.write_bytes(b"half")
    with pytest.raises(InputError, match=r"model\.pt is no weights file of torch, or damaged"):
        provenance_of(path, "pretrain_seqinv")
    with pytest.raises(InputError, match=r"none\.pt cannot be read \(No such file"):
        provenance_of(tmp_path / "none.pt", "pretrain_seqinv")


@pytest.mark.parametrize(
    ("bundle", "name", "table", "expected"),
    [
        ("arc_lesion", "summary.csv", SUMMARY, {"DSC ARC T2w": "0.500 +- 0.125 (n = 3)"}),
        (
            "pretrain_seqinv",
            "invariance.csv",
            INVARIANCE,
            {
                "retrieval_top1 (pooled)": "0.750 (untrained 0.250, chance 0.010)",
                "retrieval_top1 (dense)": "0.500 (chance 0.002)",
            },
        ),
    ],
    ids=["task", "encoder"],
)
def test_only_an_evaluation_younger_than_the_weights_counts(
    bundle: str, name: str, table: str, expected: dict[str, str], tmp_path: Path
) -> None:
    for models, evaluation in (("models", "eval"), ("models/base", "eval/base"), ("plain", "plain/eval")):
        path = trained(tmp_path / models)
        (tmp_path / evaluation).mkdir(parents=True, exist_ok=True)
        written = tmp_path / evaluation / name
        written.write_text(table, encoding="utf-8")
        touch(written, 1)
        assert provenance_of(path, bundle).scores == expected
        touch(written, -1)
        assert provenance_of(path, bundle).scores == {}
        written.write_text("site,metric\nARC,DSC\n", encoding="utf-8")
        with pytest.raises(InputError, match=rf"{name} is no table of an evaluation, or damaged"):
            provenance_of(path, bundle)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"spacing": 1.5}, 1.5),
        ({"spacing": None, "embedded": "{'spacing': 2.0}"}, None),
        ({"embedded": "{'subjects': 20, 'spacing': 2.0}"}, 2.0),
        ({"embedded": "{'subjects': 20, 'spacing': None}"}, None),
        ({"embedded": ""}, None),
        ({}, None),
    ],
)
def test_voxel_spacing_is_that_of_the_settings_or_of_the_embedded_cohort(
    settings: dict[str, Any], expected: float | None
) -> None:
    assert voxel_spacing(settings) == expected


def test_settings_are_baked_where_the_config_has_plain_values() -> None:
    config = {
        "features": [64, 128],
        "spacing": 1.0,
        "encoder": {"_target_": "scripts.networks.Encoder"},
        "augmentation": {},
        "sequences": None,
        "device": "$torch.device('cpu')",
        "seed": 0,
        "untouched": 7,
    }
    settings = {
        "channels": "[4, 4]",
        "embedded": "{'subjects': 3, 'spacing': 2.0}",
        "encoder": "Encoder",
        "augmentation": "{'rotation': 30}",
        "sequences": "['fse']",
        "device": "cuda",
        "seed": 5,
        "unknown": 1,
    }
    expected = {
        **config,
        "features": [4, 4],
        "spacing": 2.0,
        "augmentation": {"rotation": 30},
        "sequences": ["fse"],
        "seed": 5,
    }
    assert {key: bake_settings(config, settings)[key] for key in config} == expected
