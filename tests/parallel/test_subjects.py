from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.parallel import default_jobs
from scripts.subjects import run_subjects


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bad_subject_does_not_stop_the_others(tmp_path: Path, workers, jobs: int, capfd) -> None:
    names = ["one", "bad", "two", "bug", "three"]
    failed = run_subjects(names, partial(workers.stumble, folder=tmp_path), jobs=jobs, logs=tmp_path / "logs")
    assert list(failed) == ["bad", "bug"]
    assert failed["bad"] == "bad.nii.gz is damaged: copy it again"
    log = tmp_path / "logs" / "bug.log"
    assert failed["bug"] == f"RuntimeError (something): see {log}, leave the subject out or tell us"
    assert "over two lines" in log.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "one", "three", "two"]
    processes = {(tmp_path / name).read_text() for name in ("one", "two", "three")}
    assert (processes == {str(os.getpid())}) is (jobs == 1)
    told = capfd.readouterr()
    assert "bad: bad.nii.gz is damaged: copy it again" in told.out
    assert "5/5" in told.err


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_stops_everything(tmp_path: Path, workers, jobs: int) -> None:
    with pytest.raises(InputError, match=r"no space left for /data/x.nii.gz while working on full: free some"):
        run_subjects(["full", "stays", "next"], partial(workers.stumble, folder=tmp_path), jobs=jobs)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_is_told(tmp_path: Path, workers) -> None:
    with pytest.raises(InputError, match=r"a process was killed, as the system does when memory runs out: .*--jobs"):
        run_subjects(["one", "killed", "two"], partial(workers.stumble, folder=tmp_path), jobs=2)


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "two", True])
def test_jobs_out_of_range(jobs) -> None:
    with pytest.raises(InputError, match=r"jobs is .*: choose a whole number, 1 or more"):
        default_jobs(jobs)


def test_nothing_to_do_needs_no_process() -> None:
    assert run_subjects([], print, jobs=4) == {}
    assert 1 <= default_jobs(None) <= 8
