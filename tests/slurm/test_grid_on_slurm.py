"""`experiment run --launcher slurm` on a real Slurm: arrays, dependencies, failures, requeues, scancel, torchrun."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from tests.commands.client import Commands
from tests.events import LIMIT
from tests.slurm.one_node import OneNode

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "experiment" / "tiny.json"
COHORTS = {"qmri": "qmri-subjects10-spacing4", "ixi": "ixi-guys5-hh1-iop1-spacing4"}
SIZES = ("--gpus", "0", "--cpus", "1", "--memory_gb", "1", "--minutes", "10")
REFUSED = "temperature=0 is out of bounds: give a number from 0.001 to 100"
Shared = Callable[[str, Callable[[Path], Any]], Any]
Typed = subprocess.CompletedProcess[str]


def small_preset(folder: Path) -> Path:
    """A pretraining of many short epochs, one task by plain gradient descent, and a pretraining that is refused."""
    content = json.loads(TINY.read_text())
    settings = {"max_epochs": 14, "epoch_length": 1, "val_interval": 14, "picture_interval": 14, "anatomies": 4}
    content["pretrain"]["settings"] |= settings
    task = content["tasks"]["ixi_denoise"]
    # AdamW turns rounding in a gradient of almost 0 into a step of full size
    task["settings"] |= {"optimizer::_target_": "torch.optim.SGD", "learning_rate": 0.1, "dropout": 0.0}
    content["tasks"] = {"ixi_denoise": task}
    where = {name: task[name] for name in ("modalities", "fractions")}
    content["study"] = {"variants": {"seqinv-odd": {"settings": {"temperature": 0}}}, "tasks": {"ixi_denoise": where}}
    path = folder / "small.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def experiment(
    slurm: OneNode, commands: Commands, environment: dict[str, str], small_cohorts: dict[str, Path], tmp_path: Path
) -> Callable[..., Typed]:
    """Type `experiment run` for the small grid in a folder that has its cohorts, where Slurm is found."""

    def run(out: Path, *options: str) -> Typed:
        for layout, name in COHORTS.items():
            if not (out / "data" / name).exists():
                shutil.copytree(small_cohorts[layout], out / "data" / name)
        words = [sys.executable, "-m", "scripts", "experiment", "run", "--preset", str(small_preset(tmp_path))]
        return commands.run([*words, "--out", str(out), *options], cwd=ROOT, env=environment | slurm.environment)

    return run


@pytest.fixture
def here(experiment: Callable[..., Typed], shared: Shared) -> Path:
    """The grid as this machine runs it without Slurm."""

    def make(out: Path) -> Path:
        done = experiment(out, "--jobs", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        return out

    made: Path = shared("small_grid", make)
    return made


def weights(out: Path) -> dict[str, bytes]:
    return {path.parents[1].name: path.read_bytes() for path in out.glob("runs/*/models/model.pt")}


def number(done: Typed) -> str:
    """Slurm's number of the array that was handed in, or of the last one."""
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"Slurm's number (\d+)", done.stdout)[-1]


def wait(until: Callable[[], bool], what: str) -> None:
    """Wait for what Slurm tells no one."""
    end = time.monotonic() + LIMIT
    while not until():
        assert time.monotonic() < end, f"in {LIMIT:.0f} s there was not {what}"
        time.sleep(0.1)


def turn(folder: Path, slurm: OneNode, continued: int) -> None:
    """Wait until a run that was continued so often has another checkpoint."""
    log, checkpoint = folder / "log.txt", folder / "models" / "checkpoint.pt"
    wait(lambda: log.is_file() and log.read_text().count("Continuing after epoch") >= continued, "its turn")
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    wait(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before, "its checkpoint")


def test_the_grid_through_arrays_equals_that_of_this_machine_and_names_what_failed(
    experiment: Callable[..., Typed], here: Path, slurm: OneNode, tmp_path: Path
) -> None:
    out = tmp_path / "slurm"
    done = experiment(out, "--study", "--launcher", "slurm", *SIZES, "--wait", "true")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "3 finished, 2 failed" in done.stdout
    assert "3 of 5 runs are finished" in done.stdout
    failed = dict(re.findall(r"^failed: (\S+-s0-\w{8}): (.*)$", done.stdout, re.MULTILINE))
    assert [name.rsplit("-", 2)[0] for name in failed] == ["pretrain-seqinv-odd", "ixi_denoise-seqinv-odd-T1w-1"]
    odd, task = failed
    assert failed[odd] == REFUSED
    assert failed[task] == f"its encoder was not made ({odd} failed or did not run)"
    assert "Traceback" not in done.stdout + done.stderr
    assert weights(out) == weights(here)
    assert len(weights(out)) == 3
    again = experiment(out, "--launcher", "slurm", *SIZES)
    assert "3 runs, 3 of them finished, 0 to do" in again.stdout
    assert "Slurm's number" not in again.stdout
    assert slurm.ask("squeue", "--noheader") == ""


def test_requeued_twice_cancelled_and_typed_again_it_ends_with_the_same_bits(
    experiment: Callable[..., Typed], here: Path, slurm: OneNode, tmp_path: Path
) -> None:
    out, typed = tmp_path / "slurm", ("--task", "pretrain", "--launcher", "slurm", *SIZES)
    (name,) = (name for name in weights(here) if name.startswith("pretrain"))
    folder = out / "runs" / name
    job = number(experiment(out, *typed))
    turn(folder, slurm, 0)
    slurm.ask("scancel", "--signal=USR2", job)  # as Slurm does before the time limit
    turn(folder, slurm, 1)
    slurm.ask("scontrol", "requeue", job)  # as Slurm does with a job that another takes the place of
    turn(folder, slurm, 2)
    twice = experiment(out, *typed)
    assert twice.returncode == 1
    assert f"Slurm still has jobs of this grid: wait for them (squeue --me), or scancel {job} first" in twice.stderr
    slurm.ask("scancel", job)
    wait(lambda: slurm.ask("squeue", "--noheader") == "", "an empty queue")
    wait(lambda: not slurm.jobs(), "the end of its processes")
    assert list(out.rglob(".part-*")) == []
    for file in (folder / "models").glob("*.pt"):
        torch.load(file, weights_only=True)
    assert "Finished epoch 14" not in (folder / "log.txt").read_text()
    done = experiment(out, *typed, "--wait", "true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(out) == {name: weights(here)[name]}
    assert (folder / "log.txt").read_text().count("Continuing after epoch") == 3
    client = MlflowClient(f"sqlite:///{out / 'mlruns.db'}")
    run = json.loads((folder / "models" / "mlflow_run.json").read_text())["run_id"]
    assert client.get_run(run).info.status == "FINISHED"
    assert [entry.step for entry in client.get_metric_history(run, "train_loss")] == list(range(1, 15))


def test_two_processes_of_torchrun_in_a_job_train_what_one_trains(
    experiment: Callable[..., Typed], here: Path, slurm: OneNode, tmp_path: Path
) -> None:
    out, typed = tmp_path / "slurm", ("--task", "ixi_denoise", "--variant", "random")
    two = ("--gpus", "2", "--cpus", "2", *SIZES[4:], "--wait", "true")
    done = experiment(out, *typed, "--launcher", "slurm", *two)
    assert done.returncode == 0, done.stdout + done.stderr
    (name,) = weights(out)
    assert "2 process(es)" in (out / "runs" / name / "log.txt").read_text()
    ours, theirs = (torch.load(f / "runs" / name / "models" / "model.pt", weights_only=True) for f in (out, here))
    trained = [key for key in ours if key.startswith(("upcat", "final"))]
    assert trained
    for key in trained:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-5)
    wait(lambda: not slurm.jobs(), "the end of its processes")


def test_nothing_is_left_when_it_is_stopped(slurm: OneNode) -> None:
    """Another Slurm beside, stopped in the middle of a job."""
    from tests.slurm.one_node import one_node

    with one_node() as other:
        assert other.ask("sbatch", "--wrap=sleep 1000", "--output=/dev/null")
        wait(lambda: other.ask("squeue", "--noheader", "--format=%T") == "RUNNING", "a running job")
        assert other.jobs()
        folder = other.folder
    assert not folder.exists()
    assert other.processes() == []
    assert slurm.ask("sinfo", "--noheader", "--format=%P") == "main*"
