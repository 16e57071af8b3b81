"""Bad input to a training: one line that names what is wrong and the cure, and nothing left behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

TRAIN = ["train.json"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the refused run would write."""
    return tmp_path / "run"


def left_behind(folder: Path) -> list[str]:
    """Weights, checkpoints, pictures and runs; an empty database without a run counts as nothing."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if folder.exists() else []


def test_command_ends_with_one_line_and_status_1(
    cohort: Path,
    folder: Path,
    tmp_path: Path,
    settings_in: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    dataset = Path(shutil.copytree(cohort, tmp_path / "qmri"))
    broken = sorted(dataset.glob("sub-003/anat/*_R1map.nii.gz"))[0]
    broken.write_bytes(broken.read_bytes()[:4000])
    settings = settings_in(folder, dataset_dir=str(dataset), work_dir=str(tmp_path / "work"))
    done = execute(bundle_command(TRAIN, settings))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {broken} is cut off or damaged")
    assert "Traceback" not in done.stderr
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dataset_dir": "no/such/folder"}, "dataset_dir no/such/folder does not exist"),
        ({"mode": "seqinf"}, "unknown mode 'seqinf': use one of base, seqaug, seqinv"),
        ({"protocols": "papper"}, "papper"),
        ({"sequences": ["mprage", "flare"]}, "flare"),
        ({"sequences": ["mprage"]}, "name two or more"),
        ({"batch_size": 6}, "5 subjects are fewer than a batch of 6 different ones"),
        ({"batch_size": 0}, "batch_size"),
        ({"patch_size": 40}, "multiple of 16"),
        ({"n_views": 1}, "n_views=1 is out of bounds: give a whole number from 2"),
        ({"r2_from": "r3"}, "r3"),
        ({"augmentation": {"rotate": 3}}, "rotate"),
        ({"units": {"r1": "furlong"}}, "furlong"),
        ({"missing_maps": ["pd"]}, "missing=['pd']"),
        ({"split_fractions": [0.9, 0.2]}, "less than 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_refused_before_anything_is_written(
    folder: Path,
    settings_in: Callable[..., dict[str, Any]],
    refusal: Callable[..., str],
    changed: dict[str, Any],
    told: str,
) -> None:
    assert told in refusal(TRAIN, settings_in(folder, **changed))
    assert left_behind(folder) == []


def test_a_lost_map_and_its_cure(
    cohort: Path,
    folder: Path,
    tmp_path: Path,
    settings_in: Callable[..., dict[str, Any]],
    refusal: Callable[..., str],
    workflow_of: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = Path(shutil.copytree(cohort, tmp_path / "qmri"))
    sorted(dataset.glob("sub-002/anat/*_MTsat.nii.gz"))[0].unlink()
    settings = settings_in(folder, dataset_dir=str(dataset), work_dir=str(tmp_path / "work"))
    line = refusal(TRAIN, settings)
    assert "sub-002 has no MTsat" in line
    workflow = workflow_of(TRAIN, {**settings, "missing_maps": ["mtsat"]})
    workflow.initialize()
    with caplog.at_level("INFO", "scripts"):
        data = workflow.parser.get_parsed_content("data")
    assert "MT term of the signal is off" in caplog.text
    assert "sub-002" in {entry["subject"] for entry in data["training"]}
    assert left_behind(folder) == []


@pytest.mark.parametrize(
    "names", [TRAIN, [*TRAIN, "evaluate.json"], [*TRAIN, "demo.json"], ["inference.json"]], ids=str
)
def test_a_folder_that_is_no_bundle_ends_the_run_at_once(
    names: list[str], tmp_path: Path, run_here: Callable[..., ConfigWorkflow]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_here(names, {"bundle_root": str(tmp_path)})
    assert str(caught.value) == f"error: {tmp_path} is no bundle: type --bundle_root DIR"


def test_a_config_of_ones_own_says_that_it_needs_the_bundle(
    tmp_path: Path,
    root: Path,
    configs: Path,
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Where nothing leads to the bundle's own modules either; named, it is found."""
    own = Path(shutil.copytree(root / configs, tmp_path / "own"))
    refused = execute(bundle_command(TRAIN, {}, folder=own), cwd=tmp_path)
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last == f"error: {tmp_path / configs.parent} is no bundle: type --bundle_root DIR"
    settings = {"bundle_root": str(root / configs.parent), "dataset_dir": "no/such/folder"}
    found = execute(bundle_command(TRAIN, settings, folder=own), cwd=tmp_path)
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith("error: dataset_dir no/such/folder does not exist")
