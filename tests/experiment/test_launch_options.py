"""What a launcher may use, as users type it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.commands.experiment import run
from scripts.errors import InputError
from scripts.experiment.launch.options import LaunchOptions


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"jobs": 0}, "jobs is 0: give a whole number, 1 or more"),
        ({"jobs": 1.5}, "jobs is 1.5"),
        ({"gpus": -1}, "gpus is -1: give a whole number, 0 or more"),
        ({"gpus": True}, "gpus is True"),
        ({"cpus": "many"}, "cpus is 'many'"),
        ({"minutes": float("inf")}, "minutes is inf"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"memory_gb": 0}, "memory_gb is 0"),
        ({"memory_gb": "32G"}, "memory_gb is '32G': give a number of gigabytes"),
        ({"partition": ""}, "partition is ''"),
        ({"account": True}, "account is True"),
        ({"setup": 3}, "setup is 3: give shell lines"),
        ({"wait": "perhaps"}, "wait='perhaps' is neither true nor false"),
        ({"node": 3}, "no option --node: there are --jobs"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_values_that_cannot_be_meant_are_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        LaunchOptions.chosen(given)


def test_slurm_is_told_what_a_job_may_use() -> None:
    told = LaunchOptions.chosen({"setup": "module load cuda", "gpus": 2, "cpus": 12, "partition": "a100", "jobs": None})
    asked = told.on_slurm()
    assert asked["slurm_setup"] == ["module load cuda", "export OMP_NUM_THREADS=6"]
    assert (asked["gpus_per_node"], asked["cpus_per_task"], asked["mem_gb"], asked["timeout_min"]) == (2, 12, 32.0, 720)
    assert asked["slurm_partition"] == "a100"
    assert not {"slurm_account", "slurm_constraint", "slurm_array_parallelism"} & set(asked)
    assert "gpus_per_node" not in LaunchOptions(gpus=0).on_slurm()


@pytest.mark.parametrize("given", [{"jobs": 0}, {"minutes": 0}, {"minutes": float("nan")}, {"gpus": -1}])
def test_a_plain_and_a_dry_run_refuse_them_before_any_work(given: dict[str, Any], tmp_path: Path) -> None:
    for dry in (True, False):
        with pytest.raises(InputError, match=f"{next(iter(given))} is .*: give a"):
            run(str(Path(__file__).with_name("tiny.json")), out=str(tmp_path / "out"), dry_run=dry, **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "match"),
    [
        *(
            ({name: "x"}, f"--{name} is for --launcher slurm")
            for name in ("partition", "account", "constraint", "setup")
        ),
        ({"memory_gb": 8}, "--memory_gb is for --launcher slurm"),
        ({"launcher": "pbs"}, "launcher is 'pbs': choose one of local, slurm"),
        ({"seeds": "-1"}, "seeds -1: give whole numbers, 0 or more"),
        ({"cpus": 2}, "--cpus is of a launcher's jobs: add --launcher local"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_nobody_would_read_is_refused(given: dict[str, Any], match: str, tmp_path: Path) -> None:
    for dry in (True, False):
        with pytest.raises(InputError, match=match):
            run(str(Path(__file__).with_name("tiny.json")), out=str(tmp_path / "out"), dry_run=dry, **given)
    assert not (tmp_path / "out").exists()
