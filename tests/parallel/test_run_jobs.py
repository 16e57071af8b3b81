from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.errors import InputError
from scripts.parallel import InPlace, Team, Threads, run_all, run_jobs, shared_threads
from scripts.processes import Processes
from tests.events import LIMIT, Letterbox, all_end, handles

HERE = Path(__file__).parent
CODE = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]
from functools import partial
from pathlib import Path
import workers
from scripts.parallel import run_jobs
from scripts.processes import Processes
if __name__ == "__main__":
    list(run_jobs(["one", "two", "three"], partial(workers.linger, folder=Path(sys.argv[1])), Processes(2)))
"""
TEAMS: dict[str, Callable[[], Team]] = {
    "in place": InPlace,
    "threads": lambda: Threads(2),
    "processes": lambda: Processes(2),
}


@pytest.mark.parametrize("team", TEAMS)
def test_each_job_is_yielded_with_its_error(team: str, tmp_path: Path, workers: Any) -> None:
    names = ["one", "bad", "two", "bug", "three"]
    ended = dict(run_jobs(names, partial(workers.stumble, folder=tmp_path), TEAMS[team]()))
    assert sorted(ended) == sorted(names)
    assert [name for name in names if ended[name] is None] == ["one", "two", "three"]
    assert isinstance(ended["bad"], InputError)
    assert str(ended["bug"]) == "something\nover two lines"


def test_no_job_is_begun_before_the_one_it_waits_for_has_ended() -> None:
    before = {"b": "a", "d": "c", "e": "nobody"}
    ended: list[str] = []
    begun_after: dict[str, list[str]] = {}

    def work(name: str) -> None:
        begun_after[name] = list(ended)

    for name, _ in run_jobs("abcde", work, Threads(3), waits_for=before.get):
        ended.append(name)
    assert "a" in begun_after["b"]
    assert "c" in begun_after["d"]
    assert sorted(ended) == list("abcde")


def test_jobs_that_are_not_through_in_time_are_not_yielded() -> None:
    free = threading.Event()
    jobs = run_jobs(["short", "long", "not begun"], {"short": id, "long": lambda _: free.wait()}.__getitem__, InPlace())
    assert next(jobs) == ("short", None)
    jobs.close()

    def work(name: str) -> None:
        if name == "long":
            threading.Timer(0.05, free.set).start()  # when the team is being stopped it waits for this one
            free.wait()

    ended = run_jobs(["long", "not begun"], work, Threads(1), until=time.monotonic())
    assert list(ended) == []


def test_the_first_failure_stops_those_not_begun() -> None:
    done = []

    def work(number: int) -> None:
        if number == 3:
            raise InputError("number 3 is odd")
        done.append(number)

    with pytest.raises(InputError, match="number 3 is odd"):
        run_all(range(100), work, Threads(1), what="numbers", unit="number", progress=False)
    assert done == [0, 1, 2]


def test_the_bar_tells_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    run_all(range(3), id, InPlace(), what="numbers", unit="number", progress=True, done=2)
    shown = capsys.readouterr().err
    assert "numbers:" in shown
    assert "5/5 [" in shown
    assert "<00:00" in shown


def test_threads_of_torch_are_put_back() -> None:
    before = torch.get_num_threads()
    seen = []
    run_all([1, 2], lambda _: seen.append(torch.get_num_threads()), Threads(1, 1), what="", unit="", progress=False)
    assert seen == [1, 1]
    assert torch.get_num_threads() == before


def test_processes_share_the_cores(tmp_path: Path, workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert shared_threads(2) == 3
    list(run_jobs(["a"], partial(workers.threads, folder=tmp_path), Processes(2)))
    assert (tmp_path / "a").read_text() == "3 3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert shared_threads(1) >= shared_threads(2) >= shared_threads(10_000) == 1


def test_a_killed_process_costs_its_own_job_only(tmp_path: Path, workers: Any) -> None:
    os.mkfifo(tmp_path / "meeting")
    ended = dict(run_jobs(["a", "b", "c"], partial(workers.meet_or_die, folder=tmp_path), Processes(2)))
    assert isinstance(ended["a"], BrokenProcessPool)
    assert (ended["b"], ended["c"]) == (None, None)
    assert (tmp_path / "b").is_file()
    assert (tmp_path / "c").is_file()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_no_process_outlives_this_one(tmp_path: Path, how: signal.Signals) -> None:
    letters = Letterbox(tmp_path / "letters")
    program = tmp_path / "program.py"
    program.write_text(CODE)
    parent = subprocess.Popen(
        [sys.executable, program, tmp_path], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    begun = dict(line.split() for line in letters.lines(2, parent))
    assert list(begun) == ["one", "two"]
    with handles(map(int, begun.values())) as opened:
        if how is signal.SIGINT:
            os.killpg(parent.pid, how)  # Ctrl-C in a terminal reaches them all
        else:
            parent.send_signal(how)
        said = parent.communicate(timeout=LIMIT)[1]
        assert all_end(opened)
    assert letters.rest() == []  # the third was not begun
    assert all((tmp_path / name).is_file() is (how is signal.SIGINT) for name in begun)
    assert said.count("Traceback") == (how is signal.SIGINT)  # its own; the processes are quiet
