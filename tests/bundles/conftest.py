"""One tiny cohort and one tiny training, shared by all tests of what users type."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from scripts.errors import InputError, find_input_error
from tests.commands.client import Commands

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path("bundles/pretrain_seqinv/configs")

TINY: dict[str, Any] = {
    "patch_size": 32,
    "features": [4, 4, 8, 8, 8],
    "projection": [16, 8],
    "split_fractions": [0.5, 0.2],
    "epoch_length": 2,
    "max_epochs": 3,
    "batch_size": 2,
    "num_workers": 0,
    "val_interval": 2,
    "picture_interval": 2,
}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def configs() -> Path:
    """The bundle's configs, relative to the repository's root as users type them."""
    return CONFIGS


@pytest.fixture(scope="session", autouse=True)
def _(ready_store: Path) -> None:
    """New MLflow stores are copies here."""


@pytest.fixture(scope="session")
def cohort(small_cohorts: dict[str, Path]) -> Path:
    """Ten embedded subjects at 4 mm: five for training, two for validation, three held out."""
    return small_cohorts["qmri"]


@pytest.fixture(scope="session")
def work_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="session")
def settings_in(cohort: Path, work_dir: Path) -> Callable[..., dict[str, Any]]:
    """Overrides of a tiny run that writes below one folder and nowhere else."""

    def settings(folder: Path, **changed: Any) -> dict[str, Any]:
        places = {
            "dataset_dir": str(cohort),
            "work_dir": str(work_dir),
            "output_dir": str(folder / "eval"),
            "ckpt_dir": str(folder / "models"),
            "tracking_uri": f"sqlite:///{folder / 'mlruns.db'}",
        }
        return {**TINY, **places, **changed}

    return settings


@pytest.fixture(scope="session")
def bundle_command() -> Callable[..., list[str]]:
    """``python -m monai.bundle run --config_file ... --key value ...`` as a list of words."""

    def command(names: list[str], settings: dict[str, Any], *, folder: Path = CONFIGS) -> list[str]:
        files = [str(folder / name) for name in names]
        options = [word for k, v in settings.items() for word in (f"--{k}", _word(v))]
        config = files[0] if len(files) == 1 else str(files)
        return [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, *options]

    return command


@pytest.fixture
def kill_when(commands: Commands, environment: dict[str, str]) -> Callable[..., None]:
    """Run a command that ends at a random moment after a file is there, as by SIGKILL."""

    def kill(command: list[str], awaited: Path, at_most: float) -> None:
        words = [command[0], "-c", _KILLED, str(awaited), str(at_most), *command[2:]]
        done = commands.run(words, cwd=ROOT, env=environment, timeout=900)
        assert done.returncode == -signal.SIGPROF, done.stdout + done.stderr

    return kill


# The kernel ends it, without a word and whatever it does: nothing here handles this signal. The seconds to it are those
# of its processor, so that a busy machine changes nothing.
_KILLED = """
import os, random, runpy, signal, sys
awaited, at_most, *sys.argv = sys.argv[1:]
def look(*_):
    global awaited
    if awaited and os.path.exists(awaited):
        awaited = ""
        signal.setitimer(signal.ITIMER_PROF, random.SystemRandom().uniform(1e-3, float(at_most)))
sys.addaudithook(look)
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def workflow_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ConfigWorkflow]:
    """Make a workflow of some configs in this process, on the CPU; what it changes here is undone."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def make(
        names: list[str], settings: dict[str, Any], workflow_type: str = "train", folder: Path = CONFIGS
    ) -> ConfigWorkflow:
        return ConfigWorkflow(
            config_file=[str(folder / name) for name in names],
            meta_file=str(folder / "metadata.json"),
            logging_file=False,
            workflow_type=workflow_type,
            device="cpu",
            **settings,
        )

    return make


@pytest.fixture
def run_here(workflow_of: Callable[..., ConfigWorkflow]) -> Callable[..., ConfigWorkflow]:
    """Initialize and run a workflow in this process and return it."""

    def run(
        names: list[str], settings: dict[str, Any], workflow_type: str = "train", folder: Path = CONFIGS
    ) -> ConfigWorkflow:
        workflow = workflow_of(names, settings, workflow_type, folder)
        workflow.initialize()
        workflow.run()
        return workflow

    return run


@pytest.fixture
def refusal(run_here: Callable[..., ConfigWorkflow]) -> Callable[..., str]:
    """Run a workflow that has to be refused and return the one line that says why."""

    def tell(names: list[str], settings: dict[str, Any], workflow_type: str = "train", folder: Path = CONFIGS) -> str:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - monai wraps it, its type is tested below
            run_here(names, settings, workflow_type, folder)
        cause = find_input_error(caught.value)
        assert isinstance(cause, InputError), repr(caught.value)
        line = str(cause)
        assert "\n" not in line
        return line

    return tell


@pytest.fixture(scope="session")
def trained(
    shared: Callable[[str, Callable[[Path], Any]], Any],
    settings_in: Callable[..., dict[str, Any]],
    bundle_command: Callable[..., list[str]],
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> dict[str, Any]:
    """The card's command, tiny, run once without interruption in a process of its own."""

    def train(folder: Path) -> dict[str, Any]:
        settings = settings_in(folder)
        done = execute(bundle_command(["train.json"], settings))
        assert done.returncode == 0, done.stderr
        return {"folder": folder, "settings": settings, "stdout": done.stdout, "stderr": done.stderr}

    made: dict[str, Any] = shared("trained", train)
    return made


@pytest.fixture
def copy_of_trained(trained: dict[str, Any], tmp_path: Path) -> Path:
    """A folder with the models and the MLflow store of the shared training, to change."""
    shutil.copytree(trained["folder"] / "models", tmp_path / "models")
    shutil.copy(trained["folder"] / "mlruns.db", tmp_path / "mlruns.db")
    return tmp_path


@pytest.fixture
def history() -> Callable[..., dict[str, list[tuple[int, float]]]]:
    """Return every (step, value) of every metric of a run but the time it took, in the order of steps."""

    def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
        run, client = _only_run(folder)
        return {
            key: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, key))
            for key in run.data.metrics
            if key != "minutes"
        }

    return read


@pytest.fixture
def only_run() -> Callable[[Path], Any]:
    """Return the one MLflow run of the store in a folder; fails if there are none or several."""
    return lambda folder: _only_run(folder)[0]


def _only_run(folder: Path) -> tuple[Any, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlruns.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments)
    assert len(runs) == 1
    return runs[0], client


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
