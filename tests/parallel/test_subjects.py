from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.parallel import default_jobs, run_subjects

HERE = Path(__file__).parent


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch):
    """The module beside this one under a name that a new process can import, too."""
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("workers")
    sys.modules.pop("workers", None)


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
        run_subjects(["full", *map(str, range(40))], partial(workers.stumble, folder=tmp_path), jobs=jobs)
    assert len(list(tmp_path.iterdir())) < 40


def test_a_killed_process_is_told(tmp_path: Path, workers) -> None:
    with pytest.raises(InputError, match=r"a process was killed, as the system does when memory runs out: .*--jobs"):
        run_subjects(["one", "killed", "two"], partial(workers.stumble, folder=tmp_path), jobs=2)


def test_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
from functools import partial
from pathlib import Path
import workers
from scripts.parallel import run_subjects
if __name__ == "__main__":
    run_subjects(["one", "two"], partial(workers.wait, folder=Path({str(tmp_path)!r})), jobs=2)
"""
    program = tmp_path / "program.py"
    program.write_text(code)
    parent = subprocess.Popen([sys.executable, program], stderr=subprocess.DEVNULL)
    try:
        _until(lambda: all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in ("one", "two")))
        children = [int((tmp_path / name).read_text()) for name in ("one", "two")]
        assert all(map(_is_running, children))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    _until(lambda: not any(map(_is_running, children)))


@pytest.mark.parametrize("jobs", [0, -1, 1.5, "two", True])
def test_jobs_out_of_range(jobs) -> None:
    with pytest.raises(InputError, match=r"jobs is .*: choose a whole number, 1 or more"):
        default_jobs(jobs)


def test_nothing_to_do_needs_no_process() -> None:
    assert run_subjects([], print, jobs=4) == {}
    assert 1 <= default_jobs(None) <= 8


def _is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(condition, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
