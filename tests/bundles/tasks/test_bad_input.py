"""What a user of a downstream bundle can get wrong is told in one line, before any work."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from scripts.networks import Encoder

Settings = Callable[..., dict[str, Any]]
Refusal = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, task_settings: Settings, task_configs: Callable[[str], Path], refusal: Refusal
) -> Callable[..., str]:
    """Start a training that has to be refused and leaves no network; return its line."""

    def tell(bundle: str, **changed: Any) -> str:
        line = refusal(["train.json"], task_settings(bundle, tmp_path, **changed), folder=task_configs(bundle))
        assert not (tmp_path / "models").exists()
        assert not (tmp_path / "mlruns.db").exists()
        return line

    return tell


@pytest.fixture
def ixi(tmp_path: Path, heads: dict[str, Path]) -> Path:
    """A copy of the heads, to spoil."""
    return Path(shutil.copytree(heads["ixi_seg"], tmp_path / "ixi"))


@pytest.fixture
def arc(tmp_path: Path, heads: dict[str, Path]) -> Path:
    return Path(shutil.copytree(heads["arc_lesion"], tmp_path / "arc"))


def rewritten(path: Path, change: Callable[[np.ndarray], np.ndarray], affine: np.ndarray | None = None) -> str:
    """Change the voxels of a file in place."""
    image = nib.load(path)
    voxels = change(np.asarray(image.dataobj, dtype=np.float32))
    nib.save(nib.Nifti1Image(voxels, image.affine if affine is None else affine), path)
    return str(path)


def first_image(folder: Path) -> Path:
    return min(path for path in folder.rglob("IXI*-T1.nii.gz"))


def first_mask(folder: Path) -> Path:
    return min(folder.rglob("*_desc-lesion_mask.nii.gz"))


def test_missing_encoder_names_the_command_that_makes_one(refused: Callable[..., str], tmp_path: Path) -> None:
    line = refused("ixi_seg", encoder_bundle=str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in line
    assert "bundles/pretrain_seqinv/configs/train.json" in line


def test_encoder_of_another_width(refused: Callable[..., str], tmp_path: Path) -> None:
    state = {f"encoder.{k}": v for k, v in Encoder(features=(8, 8, 8, 8, 8)).state_dict().items()}
    torch.save(state, tmp_path / "wide.pt")
    line = refused("ixi_seg", encoder_bundle=str(tmp_path / "wide.pt"))
    assert "wide.pt" in line
    assert "set features to the file's [8, 8, 8, 8, 8]" in line


def test_encoder_with_missing_keys(refused: Callable[..., str], tmp_path: Path, encoder_bundle: Path) -> None:
    state = torch.load(encoder_bundle / "models" / "model.pt", weights_only=True)
    state.pop("encoder.down_3.convs.conv_0.conv.weight")
    torch.save(state, tmp_path / "part.pt")
    line = refused("arc_lesion", encoder_bundle=str(tmp_path / "part.pt"))
    assert "part.pt" in line
    assert "lacks the tensor down_3.convs.conv_0.conv.weight" in line


def test_missing_label(refused: Callable[..., str], ixi: Path) -> None:
    image = first_image(ixi)
    lost = image.with_name(f"c2{image.name}")
    lost.unlink()
    line = refused("ixi_seg", dataset_dir=str(ixi))
    assert str(lost) in line
    assert "segment" in line


def test_label_of_another_grid(refused: Callable[..., str], ixi: Path) -> None:
    image = first_image(ixi)
    path = rewritten(image.with_name(f"c1{image.name}"), lambda voxels: voxels[:-1])
    line = refused("ixi_seg", dataset_dir=str(ixi))
    assert path in line
    assert "shape" in line


def test_probabilities_out_of_range(refused: Callable[..., str], ixi: Path) -> None:
    image = first_image(ixi)
    path = rewritten(image.with_name(f"c3{image.name}"), lambda voxels: voxels * 255)
    line = refused("ixi_seg", dataset_dir=str(ixi))
    assert path in line
    assert "probabilities from 0 to 1" in line


def test_label_values_out_of_range(refused: Callable[..., str], arc: Path) -> None:
    path = rewritten(first_mask(arc), lambda voxels: voxels * 3)
    line = refused("arc_lesion", dataset_dir=str(arc))
    assert path in line
    assert "label values 3" in line


def test_mask_without_lesion(refused: Callable[..., str], arc: Path) -> None:
    path = rewritten(first_mask(arc), np.zeros_like)
    line = refused("arc_lesion", dataset_dir=str(arc))
    assert path in line
    assert "marks no lesion" in line


def test_wrong_modality(refused: Callable[..., str]) -> None:
    assert "choose T1w, T2w, PDw, FLAIR" in refused("ixi_seg", modality="SWI")
    assert "holds no FLAIR image" in refused("ixi_seg", modality="FLAIR")
    assert "choose T1w, T2w, FLAIR" in refused("arc_lesion", modality="PDw")


def test_image_without_spacing(refused: Callable[..., str], ixi: Path) -> None:
    image = first_image(ixi)
    read = nib.load(image)
    header = nib.Nifti1Header()
    header.set_data_shape(read.shape)
    header.set_data_dtype(np.int16)
    raw = nib.Nifti1Image(np.asarray(read.dataobj).astype(np.int16), None, header)
    nib.save(raw, image)
    line = refused("ixi_denoise", dataset_dir=str(ixi))
    assert str(image) in line
    assert "no spacing" in line


def test_fraction_out_of_range(refused: Callable[..., str]) -> None:
    assert "label_fraction=2" in refused("ixi_denoise", label_fraction=2)


def test_splits_do_not_mix(
    trained_task: dict[str, Any],
    tmp_path: Path,
    task_configs: Callable[[str], Path],
    refusal: Refusal,
) -> None:
    """Other subjects in one work folder, and a network tested on subjects of another split."""
    configs = task_configs(trained_task["bundle"])
    settings = {**trained_task["settings"], "split_fractions": [0.4, 0.2]}
    line = refusal(["train.json"], settings, folder=configs)
    split = "split-T2w.json" if trained_task["bundle"] == "arc_lesion" else "split.json"
    assert str(trained_task["folder"] / "data" / split) in line
    elsewhere = {**settings, "work_dir": str(tmp_path / "data")}
    line = refusal(["train.json", "evaluate.json"], elsewhere, folder=configs)
    assert "another split" in line


def test_a_network_of_another_modality_is_refused_unless_meant(
    trained_task: dict[str, Any], task_configs: Callable[[str], Path], refusal: Refusal
) -> None:
    other = "T1w" if trained_task["bundle"] == "arc_lesion" else "T2w"
    settings = {**trained_task["settings"], "modality": other}
    line = refusal(["train.json", "evaluate.json"], settings, folder=task_configs(trained_task["bundle"]))
    assert "--cross_modality true" in line


@pytest.mark.parametrize("names", [["evaluate.json"], ["inference.json"]], ids=["evaluate", "inference"])
def test_missing_network_names_the_command_that_trains_one(
    names: list[str],
    tmp_path: Path,
    heads: dict[str, Path],
    task_settings: Settings,
    task_configs: Callable[[str], Path],
    refusal: Refusal,
) -> None:
    if names == ["evaluate.json"]:
        line = refusal(["train.json", *names], task_settings("ixi_seg", tmp_path), folder=task_configs("ixi_seg"))
    else:
        settings = {"image": str(first_image(heads["ixi_seg"])), "ckpt_dir": str(tmp_path)}
        line = refusal(names, settings, "infer", folder=task_configs("ixi_seg"))
    assert "model.pt" in line
    assert "bundles/ixi_seg/configs/train.json" in line


def test_the_process_ends_with_that_line(
    tmp_path: Path,
    task_settings: Settings,
    task_configs: Callable[[str], Path],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    settings = task_settings("ixi_seg", tmp_path, modality="SWI")
    done = execute(bundle_command(["train.json"], settings, folder=task_configs("ixi_seg")))
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: modality='SWI'")
    assert "Traceback" not in done.stderr
