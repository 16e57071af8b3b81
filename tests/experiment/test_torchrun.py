"""The command line of a training in several processes, and such trainings, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fire
import pytest
import torch

from scripts.cohort.qmri_cohort import make_qmri_cohort
from scripts.errors import InputError
from scripts.experiment.launch.launchers import LaunchOptions, submit_stages
from scripts.experiment.launch.torchrun import command_word, torchrun_command
from tests.experiment.launch_workers import Item, do

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "bundles/pretrain_seqinv/configs/train.json"
SCRIPT = """
import sys
from pathlib import Path
from scripts.experiment.launch.launchers import submit_stages
from tests.experiment.launch_workers import Item, do
folder = Path(sys.argv[1])
submit_stages([("first", [Item("a", folder, "train")])], do, launcher="local", folder=folder / "jobs")
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qmri_cohort(tmp_path_factory.mktemp("cohort") / "qmri", 10, 0, 4.0, progress=False)


@pytest.fixture
def settings(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A tiny pretraining, with every kind of value among its settings."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return {
        "patch_size": 32,
        "features": [4, 4, 8, 8, 8],
        "projection": [16, 8],
        "projector_norm": None,
        "split_fractions": [0.5, 0.2],
        "embedded": {"subjects": 6, "seed": 0, "spacing": 4.0},
        "resume": False,
        "protocols": "paper",
        "epoch_length": 1,
        "max_epochs": 2,
        "batch_size": 4,
        "num_workers": 0,
        "dataset_dir": str(cohort),
        "work_dir": str(tmp_path / "work"),
        "output_dir": str(tmp_path / "eval"),
        "ckpt_dir": str(tmp_path / "models"),
        "tracking_uri": f"sqlite:///{tmp_path / 'mlruns.db'}",
        "experiment": "1e3",  # a name that reads like a number
    }


VALUES: list[Any] = [
    "a word",
    "1e-3",
    "True",
    "None",
    "abc#def",
    "it's",
    "",
    "-1",
    "--x",
    "a,b",
    "[1",
    '{"a": true}',
    "$torch.device('cpu')",
    "@mode",
    "sqlite:////a b/c=d.db",
    "C:\\data\nline",
    None,
    True,
    False,
    0,
    -1,
    2.0,
    1e-5,
    [],
    [1, 2.5, "x", None, True, ["y"]],
    {},
    {"a": True, "b": [None, "1"], "c": {"d": -1.0}},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_arrive_as_they_are(value: Any) -> None:
    command = torchrun_command(2, [TRAIN], {"key": value, "other": 1})
    read = fire.Fire(lambda command, **settings: settings, command[command.index("run") :])
    assert (read["key"], type(read["key"])) == (value, type(value))
    assert read["config_file"] == [TRAIN, TRAIN.replace("train.json", "multi_gpu_train.json")]
    assert list(read) == ["config_file", "key", "other"]


def test_paths_and_tuples_become_text_and_lists() -> None:
    assert command_word(Path("/a/b")) == "/a/b"
    assert command_word((1, Path("x"))) == "[1, 'x']"


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), object(), [torch.zeros(1)]], ids=["nan", "inf", "object", "tensor"]
)
def test_what_no_word_stands_for_is_refused(value: Any) -> None:
    with pytest.raises(InputError, match=r"lr=.* cannot be given on a command line"):
        torchrun_command(2, [TRAIN], {"lr": value})


@pytest.mark.parametrize(("n_gpus", "files", "match"), [(0, [TRAIN], "n_gpus is 0"), (2, [], "no config to train")])
def test_too_little_to_train_with_is_refused(n_gpus: int, files: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        torchrun_command(n_gpus, files, {})


def test_a_launched_job_trains_in_two_processes(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(settings))
    done = submit_stages(
        [("first", [Item("a", tmp_path, "train")])],
        do,
        launcher="local",
        folder=tmp_path / "jobs",
        options=LaunchOptions(cpus=1),
    )
    assert done.failed == []
    (log,) = tmp_path.glob("jobs/*/*_log.out")
    assert "2 process(es)" in log.read_text()
    model = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert model["encoder.conv_0.conv_0.conv.weight"].shape[0] == 4
    from mlflow import MlflowClient

    client = MlflowClient(settings["tracking_uri"])
    experiment = client.get_experiment_by_name("1e3")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_failed_training_fails_its_job(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**settings, "batch_size": 3}))
    done = submit_stages([("first", [Item("a", tmp_path, "train")])], do, launcher="local", folder=tmp_path / "jobs")
    ((_, why),) = done.failed
    assert why.startswith("batch_size=3 cannot be shared by 2 processes")
    (log,) = tmp_path.glob("jobs/*/*_log.err")
    assert f"error: {why}" in log.read_text()


@pytest.mark.slow
def test_all_processes_of_a_training_end_with_a_killed_launcher(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**settings, "max_epochs": 10_000}))
    launcher = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        assert _within(120, lambda: (tmp_path / "models").is_dir() and any((tmp_path / "models").glob("*.pt")))
        assert len(_processes_that_name(tmp_path)) == 6  # launcher, submitit's two, torchrun's one and two
        launcher.send_signal(signal.SIGKILL)
        assert _within(60, lambda: not _processes_that_name(tmp_path))
    finally:
        launcher.kill()
        launcher.wait()


def _processes_that_name(folder: Path) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "pid=,stat=,args=", "-ww"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and str(os.getpid()) not in line.split()[:1]]


def _within(seconds: float, happens: Any) -> bool:
    until = time.monotonic() + seconds
    while not happens() and time.monotonic() < until:
        time.sleep(0.1)
    return bool(happens())
