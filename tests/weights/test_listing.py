"""What ``python -m scripts weights`` says of real training folders."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet

from scripts.__main__ import main
from scripts.errors import InputError
from scripts.networks import Encoder
from scripts.weights import listing

WIDTHS = (2, 3, 4, 5, 6)
PRETRAINING: dict[str, Any] = {
    "mode": "seqinv",
    "contrastive": "NTXentLoss",
    "seed": 0,
    "patch_size": 32,
    "channels": str(list(WIDTHS)),
    "cohort": "embedded",
    "embedded": "{'subjects': 20, 'seed': 0, 'spacing': 2.0}",
}
TASK: dict[str, Any] = {
    "modality": "T2w",
    "label_fraction": 0.1,
    "training_subjects": "2 subjects, IXI002-Guys-0704 to IXI005-Guys-0710",
    "seed": 1,
    "patch_size": 32,
    "spacing": 1.0,
    "features": str([*WIDTHS, 2]),
    "variant": "seqinv",
    "frozen": True,
    "cohort": "real",
}
SUMMARY = """site,modality,class,metric,n,mean,standard_error,low,high,total
Guys,T2w,all,DSC,3,0.8125,0.01,0.7,0.9,
HH,T2w,all,DSC,1,0.75,,,,
HH,T2w,grey matter,DSC,1,0.7,,,,
HH,T2w,all,HD95,1,7.5,,,,
"""


def save(folder: Path, network: torch.nn.Module, settings: dict[str, Any], **saved: Any) -> str:
    """Write what a training leaves, and return the SHA-256 of its weights."""
    (folder / "models").mkdir(parents=True)
    path = folder / "models" / "model.pt"
    torch.save(network.state_dict(), path)
    content = {"model": network.state_dict(), "epoch": 3, "iteration": 60, "settings": settings, **saved}
    torch.save(content, folder / "models" / "checkpoint.pt")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def evaluate(folder: Path, table: str, age: float = 0.0) -> None:
    (folder / "eval").mkdir()
    (folder / "eval" / "summary.csv").write_text(table, encoding="utf-8")
    then = time.time() + 5 - age
    os.utime(folder / "eval" / "summary.csv", (then, then))


def unet() -> BasicUNet:
    return BasicUNet(features=(*WIDTHS, 2), out_channels=4, act="GELU", norm="instance")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout."""
    monkeypatch.setattr(listing, "ROOT", tmp_path)
    monkeypatch.setattr(listing, "BUNDLES", tmp_path / "bundles")
    return tmp_path


def test_with_none_it_says_what_to_run(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts", "weights"])
    main()
    command = "python -m monai.bundle run --config_file bundles/{}/configs/train.json"
    expected = [
        f"{name}\n  no weights; make them with\n    {command.format(name)}"
        for name in ("pretrain_seqinv", "ixi_seg", "arc_lesion", "ixi_denoise")
    ]
    assert capsys.readouterr().out == "\n\n".join(expected) + "\n"


def test_tells_hash_training_encoder_and_evaluation(root: Path) -> None:
    torch.manual_seed(0)
    encoder = save(root / "bundles" / "pretrain_seqinv", Encoder(features=WIDTHS), PRETRAINING)
    task = save(root / "bundles" / "ixi_seg", unet(), {**TASK, "encoder": encoder[:12]})
    evaluate(root / "bundles" / "ixi_seg", SUMMARY)
    told = listing.describe_weights()
    first, second, third, _ = told.split("\n\n")
    assert first.startswith("pretrain_seqinv\n  bundles/pretrain_seqinv/models/model.pt\n    size        0.0 MB\n")
    assert f"    SHA-256     {encoder}\n" in first
    said = " ".join(first.split())
    for words in (
        "seqinv, NTXentLoss, embedded (simulated) cohort, 20 subjects, epoch 3, 60 steps, seed 0",
        "widths [2, 3, 4, 5, 6], patches of 32 voxels, at 2 mm",
        "evaluation none since these weights were made",
    ):
        assert words in said
    said = " ".join(second.split())
    for words in (
        f"SHA-256 {task}",
        "T2w, variant seqinv, real cohort, trained on 2 subjects, IXI002-Guys-0704 to IXI005-Guys-0710",
        "label fraction 0.1, epoch 3, 60 steps, seed 1",
        f"encoder {encoder[:12]}, frozen, that of bundles/pretrain_seqinv/models/model.pt",
        "evaluation DSC Guys T2w 0.812 +- 0.010 (n = 3) DSC HH T2w 0.750 (n = 1)",
    ):
        assert words in said
    assert "grey matter" not in second
    assert "HD95" not in second
    assert third.startswith("arc_lesion\n  no weights")
    assert max(map(len, told.splitlines())) <= 100


def test_an_encoder_that_is_not_there_and_an_old_evaluation_are_told_as_such(root: Path) -> None:
    save(root / "bundles" / "pretrain_seqinv", Encoder(features=WIDTHS), PRETRAINING)
    save(root / "bundles" / "ixi_seg", unet(), {**TASK, "encoder": "0123456789ab"})
    evaluate(root / "bundles" / "ixi_seg", SUMMARY, age=60)
    save(root / "bundles" / "ixi_denoise", unet(), {**TASK, "encoder": "", "variant": "scratch"})
    told = listing.describe_weights()
    assert "encoder     0123456789ab, frozen, which is none of those listed here" in told
    assert "DSC" not in told
    assert "encoder     none pretrained (scratch)" in told


def test_damaged_files_are_told_and_the_others_too(root: Path) -> None:
    bundles = root / "bundles"
    save(bundles / "pretrain_seqinv", Encoder(features=WIDTHS), PRETRAINING)
    whole = bundles / "pretrain_seqinv" / "models" / "model.pt"
    whole.write_bytes(whole.read_bytes()[:1000])
    save(bundles / "ixi_seg", unet(), TASK)
    (bundles / "ixi_seg" / "models" / "checkpoint.pt").write_bytes(b"half")
    save(bundles / "arc_lesion", unet(), TASK)
    diverged = unet()
    diverged.conv_0.conv_0.conv.bias.data.fill_(float("nan"))
    save(bundles / "ixi_denoise", diverged, TASK)
    parts = [" ".join(part.split()) for part in listing.describe_weights().split("\n\n")]
    assert "damaged model.pt: is no weights file of torch, or damaged" in parts[0]
    assert "checkpoint.pt is damaged, or no checkpoint of this project: move it away" in parts[1]
    assert "T2w, variant seqinv, real cohort" in parts[2]
    assert "conv_0.conv_0.conv.bias holds NaN or infinity" in parts[3]


def test_weights_without_a_fitting_checkpoint_are_of_unknown_training(root: Path) -> None:
    folder = root / "bundles" / "pretrain_seqinv"
    save(folder, Encoder(features=WIDTHS), PRETRAINING)
    torch.save(Encoder(features=WIDTHS).state_dict(), folder / "models" / "model.pt")
    (root / "bundles" / "ixi_seg" / "models").mkdir(parents=True)
    torch.save(unet().state_dict(), root / "bundles" / "ixi_seg" / "models" / "model.pt")
    first, second, *_ = listing.describe_weights().split("\n\n")
    assert "the checkpoint beside it is of other weights, so nothing is known of its training" in first
    assert "seqinv," not in first
    assert "training    unknown: no checkpoint lies beside it" in second


def test_variants_in_folders_of_their_own_are_listed(root: Path) -> None:
    folder = root / "bundles" / "pretrain_seqinv"
    save(folder / "scratch", Encoder(features=WIDTHS), {**PRETRAINING, "mode": "base"})
    (folder / "models").mkdir()
    (folder / "scratch" / "models").rename(folder / "models" / "base")
    told = listing.describe_weights()
    assert "bundles/pretrain_seqinv/models/base/model.pt" in told
    assert "training    base, NTXentLoss" in told


def test_folders_of_a_demo_and_of_an_experiment(root: Path, tmp_path: Path) -> None:
    demo, grid = tmp_path / "demo", tmp_path / "grid"
    for folder, runs in (
        (demo, ("", "arc_lesion")),
        (grid, ("runs/pretrain-base-s0-1a2b", "runs/arc_lesion-base-3c4d")),
    ):
        encoder = save(folder / runs[0], Encoder(features=WIDTHS), PRETRAINING)
        save(folder / runs[1], unet(), {**TASK, "encoder": encoder[:12]})
        told = listing.describe_weights(folder)
        assert told.count("no weights; make them with") == 4
        after = told[told.index(f"In {folder}:") :]
        assert after.count("bundle      pretrain_seqinv") == after.count("bundle      arc_lesion") == 1
        assert f"{encoder[:12]}, frozen, that of" in " ".join(after.split())


def test_refuses_a_folder_without_weights(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none is no folder: give that of a demo or an experiment"):
        listing.describe_weights(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no weights: give the folder of a demo or an experiment"):
        listing.describe_weights(tmp_path / "empty")
