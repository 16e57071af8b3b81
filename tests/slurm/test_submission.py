"""What sbatch is told, by a stand-in for it: this needs no Slurm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.experiment.launch.launchers import LaunchOptions, submit_stages

SBATCH = "#!/bin/sh\nenv > {folder}/environment\necho Submitted batch job 7\n"
SET_BY_THE_USER = {"SLURM_CONF": "/opt/slurm/slurm.conf", "SBATCH_ACCOUNT": "brains"}
OF_A_JOB = {"SLURM_JOB_ID": "3", "SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_PER_TASK": "2"}


def nothing(item: str) -> None:
    """Done to an item."""


def test_sbatch_sees_what_the_user_set_and_nothing_of_the_job_in_which_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "sbatch": SBATCH.format(folder=tmp_path),
        "squeue": "#!/bin/sh\n",
        "srun": "#!/bin/sh\n",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name, value in (SET_BY_THE_USER | OF_A_JOB).items():
        monkeypatch.setenv(name, value)
    stages = [("first", ["a"])]
    done = submit_stages(stages, nothing, launcher="slurm", folder=tmp_path / "jobs", options=LaunchOptions())
    assert done.ids == {"first": "7"}
    seen = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line)
    assert {name: seen.get(name) for name in SET_BY_THE_USER} == SET_BY_THE_USER
    assert OF_A_JOB.keys() & seen.keys() == set()
    assert {name: os.environ[name] for name in OF_A_JOB} == OF_A_JOB
