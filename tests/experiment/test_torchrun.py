"""The command line of a training in several processes, and such trainings, on the CPU."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import fire
import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ErrorHandler, ProcessFailure

from scripts.errors import DiskFullError, InputError
from scripts.experiment.launch.launchers import LaunchOptions, submit_stages
from scripts.experiment.launch.torchrun import _first, run_torchrun, torchrun_command
from scripts.literals import command_word
from tests.commands.client import Commands
from tests.events import LIMIT, Letterbox, all_end, handles, offspring
from tests.experiment.launch_workers import Item, do

ROOT = Path(__file__).resolve().parents[2]
TRAIN = "bundles/pretrain_seqinv/configs/train.json"


@pytest.fixture
def settings(small_cohorts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
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
        "max_epochs": 1,
        "batch_size": 4,
        "num_workers": 0,
        "dataset_dir": str(small_cohorts["qmri"]),
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


def test_a_launched_job_trains_in_two_processes(
    settings: dict[str, Any], tmp_path: Path, forked_processes: None
) -> None:
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


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config that does `be_rank`."""
    monkeypatch.chdir(ROOT)
    be_rank = {"_target_": "tests.experiment.launch_workers.be_rank", "task": "@task", "folder": "@folder"}
    (tmp_path / "train.json").write_text(json.dumps({"task": "", "folder": "", "rank": be_rank, "run": ["$@rank"]}))
    (tmp_path / "multi_gpu_train.json").write_text("{}")
    return tmp_path / "train.json"


@pytest.mark.parametrize("task", ["refuse", "refuse_and_end_late"])
def test_what_one_process_refuses_is_told_in_a_line_and_ends_all(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], forked_processes: None, task: str
) -> None:
    letters = Letterbox(tmp_path / "letters")
    with pytest.raises(InputError, match=r"^its bundle lacks a file: 'inside'$"):
        run_torchrun(2, [bundle], {"task": task, "folder": str(tmp_path)})
    ranks = [int(line.split()[1]) for line in letters.rest()]
    assert len(ranks) == 2
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)
    assert "error: its bundle lacks a file: 'inside'" in capfd.readouterr().err


@pytest.mark.parametrize(
    "error", [ArithmeticError("first line\nsecond line"), InputError("lr=0: too small"), DiskFullError("no room"), None]
)
def test_the_first_failure_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    file = tmp_path / "error.json"
    if error is not None:  # as a process of torch records it
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
        ErrorHandler().record_exception(error)
    failure = ProcessFailure(local_rank=1, pid=7, exitcode=-9 if error is None else 1, error_file=str(file))
    told = _first(ChildFailedError("run", {1: failure}), tmp_path)
    line = {
        "ArithmeticError": "ArithmeticError: first line",
        "InputError": "lr=0: too small",
        "DiskFullError": "no room",
    }
    assert str(told) == line.get(type(error).__name__, "Signal 9 (SIGKILL) received by PID 7")
    assert isinstance(told, InputError if isinstance(error, InputError) else RuntimeError)


def test_a_refusal_is_told_where_torch_saw_another_process_fail_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [RuntimeError("Connection closed by peer"), InputError("lr=0: too small")]
    for rank, error in enumerate(errors):
        (tmp_path / str(rank)).mkdir()
        monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / str(rank) / "error.json"))
        ErrorHandler().record_exception(error)
    seen = ProcessFailure(local_rank=0, pid=7, exitcode=1, error_file=str(tmp_path / "0" / "error.json"))
    assert str(_first(ChildFailedError("run", {0: seen}), tmp_path)) == "lr=0: too small"
    (tmp_path / "1" / "error.json").write_text("{")  # ended while it wrote
    assert str(_first(ChildFailedError("run", {0: seen}), tmp_path)) == "RuntimeError: Connection closed by peer"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_all_processes_end_with_the_one_that_began_them(
    bundle: Path, tmp_path: Path, commands: Commands, how: signal.Signals
) -> None:
    letters = Letterbox(tmp_path / "letters")
    code = "import sys; from scripts.experiment.launch.torchrun import run_torchrun\n"
    code += "run_torchrun(2, sys.argv[1:2], {'task': 'sleep', 'folder': sys.argv[2]})"
    parent = commands.start([sys.executable, "-c", code, str(bundle), str(tmp_path)], cwd=ROOT, new_session=True)
    try:
        ranks = dict(line.split() for line in letters.lines(2, parent))
        below = offspring(parent.pid)
        assert set(map(int, ranks.values())) < below
        with handles(below) as opened:
            os.killpg(parent.pid, how) if how is signal.SIGINT else parent.kill()
            assert parent.wait(LIMIT) != 0
            assert all_end(opened)
    finally:
        parent.kill()
        parent.wait()
