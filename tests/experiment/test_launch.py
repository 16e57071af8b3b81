"""Launchers with real processes, and with a real Slurm where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import submitit.local.local

from scripts.errors import InputError
from scripts.experiment.launch.launchers import Launch, LaunchOptions, submit_stages
from scripts.experiment.launch.local import Machine
from tests.events import LIMIT, Letterbox, all_end, handles, offspring
from tests.experiment.launch_workers import Item, do

ROOT = Path(__file__).resolve().parents[2]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
EARLY = {"signal_delay_s": 40}
SCRIPT = """
import sys
from pathlib import Path
from scripts.experiment.launch.launchers import LaunchOptions, submit_stages
from tests.experiment.launch_workers import Item, do
folder, task = Path(sys.argv[1]), sys.argv[2]
items = [Item(name, folder, task) for name in "abc"]
submit_stages([("first", items)], do, launcher="local", folder=folder / "jobs", options=LaunchOptions(jobs=2))
"""


def _slurm_answers() -> bool:
    if shutil.which("sbatch") is None:
        return False
    try:
        done = subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


needs_slurm = pytest.mark.skipif(not _slurm_answers(), reason="no Slurm on this machine")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find the project as users' do, who type their commands at its root."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Launch[Item]]:
    """Launch stages given as {stage: {item: task}} and return what became of them."""

    def run(stages: dict[str, dict[str, str]], launcher: str = "local", **options: Any) -> Launch[Item]:
        listed = [(s, [Item(n, tmp_path, t) for n, t in items.items()]) for s, items in stages.items()]
        return submit_stages(
            listed, do, launcher=launcher, folder=tmp_path / "jobs", options=LaunchOptions.chosen(options)
        )

    return run


def _names(items: list[Item]) -> list[str]:
    return sorted(item.name for item in items)


def _told(folder: Path) -> dict[str, tuple[float, float, str, str, str]]:
    """Return begin, end, threads, GPUs and Slurm's cores of every item that came to its end."""
    rows = {path.stem: path.read_text().split("|") for path in folder.glob("*.txt")}
    return {name: (float(row[0]), float(row[1]), row[2], row[3], row[4]) for name, row in rows.items()}


def test_stages_follow_each_other_and_jobs_share_the_machine(
    launch: Callable[..., Launch[Item]], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "meeting")
    done = launch({"first": {"a": "meet", "b": "meet", "c": "note"}, "second": {"d": "note"}}, jobs=2)
    assert (_names(done.finished), done.failed, done.left, done.ids) == (list("abcd"), [], [], {})
    told = _told(tmp_path)
    assert told["d"][0] > max(told[name][1] for name in "abc")
    at_once = [sum(begin <= t < end for begin, end, *_ in told.values()) for t in (row[0] for row in told.values())]
    assert max(at_once) == 2
    assert {row[2] for row in told.values()} == {str(max(1, CORES // 2))}


def test_failures_are_told_in_a_line_and_stop_no_other(
    launch: Callable[..., Launch[Item]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"a": "refuse", "b": "break", "c": "killed", "d": "note"}
    done = launch({"first": first, "second": {"e": "note"}}, jobs=2)
    assert _names(done.finished) == ["d", "e"]
    assert {item.name: why for item, why in done.failed} == {
        "a": "a lacks a file: 'inside'",
        "b": "ArithmeticError: first line",
        "c": "its process was killed, as the system does when memory runs out",
    }
    said = capsys.readouterr().out
    assert "2 finished, 3 failed" in said
    line = next(line for line in said.splitlines() if line.startswith("b: FAILED"))
    log = Path(line.rsplit("(log: ", 1)[1].removesuffix(")"))
    assert "second line" in log.read_text(encoding="utf-8")
    assert "Traceback" not in said


def test_a_preempted_job_gets_another_turn(launch: Callable[..., Launch[Item]], tmp_path: Path) -> None:
    done = launch({"first": {"a": "preempted"}})
    assert _names(done.finished) == ["a"]
    assert (tmp_path / "a-turns").read_text() == "xx"
    assert (tmp_path / "a-child").read_text() == "stayed"


@pytest.mark.slow
def test_a_job_at_its_time_limit_gets_another_turn(
    launch: Callable[..., Launch[Item]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told 40 s before the end of its minute, instead of 30."""
    begin = submitit.local.local.start_controller
    monkeypatch.setattr(submitit.local.local, "start_controller", lambda *a, **k: begin(*a, **{**k, **EARLY}))
    done = launch({"first": {"a": "long, then short"}}, minutes=1)
    assert _names(done.finished) == ["a"]
    assert (tmp_path / "a-turns").read_text() == "xx"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_no_process_outlives_its_launcher(tmp_path: Path, how: signal.Signals) -> None:
    letters = Letterbox(tmp_path / "letters")
    launcher = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "linger"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        begun = dict(line.split() for line in letters.lines(2, launcher))
        assert list(begun) == ["a", "b"]
        below = offspring(launcher.pid)
        assert set(map(int, begun.values())) <= below
        with handles(below) as opened:
            if how is signal.SIGINT:
                os.killpg(launcher.pid, how)  # Ctrl-C in a terminal reaches them all
            else:
                launcher.send_signal(how)
            assert launcher.wait(LIMIT) != 0
            assert all_end(opened)
            assert letters.rest() == []  # the third was not begun
    finally:
        launcher.kill()
        launcher.wait()
    assert all((tmp_path / f"{name}.interrupted").exists() is (how is signal.SIGINT) for name in "ab")


def test_gpus_are_dealt_out_and_shared_where_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7f,5,6")

    def dealt(**options: Any) -> list[str]:
        return [slot["CUDA_VISIBLE_DEVICES"] for slot in Machine(LaunchOptions(**options)).slots]

    assert dealt() == ["3", "GPU-7f", "5", "6"]
    assert dealt(gpus=2) == ["3,GPU-7f", "5,6"]
    assert dealt(gpus=4) == ["3,GPU-7f,5,6"]
    assert dealt(jobs=6) == ["3", "GPU-7f", "5", "6", "3", "GPU-7f"]
    assert dealt(jobs=2, gpus=0) == ["", ""]
    with pytest.raises(InputError, match="gpus is 5 and this machine has 4"):
        dealt(gpus=5)


def test_gpus_are_chosen_before_the_job_imports_torch(
    launch: Callable[..., Launch[Item]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    launch({"first": dict.fromkeys("ab", "note")}, cpus=3)
    told = _told(tmp_path)
    assert {told[name][3] for name in "ab"} == {"1", "2"}
    assert {row[2] for row in told.values()} == {"3"}


@pytest.mark.parametrize("name", ["memory_gb", "partition", "account", "constraint", "setup"])
def test_what_only_slurm_has_is_refused_on_one_machine(launch: Callable[..., Launch[Item]], name: str) -> None:
    with pytest.raises(InputError, match=f"--{name} is for --launcher slurm"):
        launch({"first": {"a": "note"}}, **{name: 4 if name == "memory_gb" else "x"})


def test_an_unknown_launcher_and_a_missing_submitit_are_told(
    launch: Callable[..., Launch[Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="launcher is 'pbs': choose one of local, slurm"):
        launch({}, launcher="pbs")
    monkeypatch.setitem(sys.modules, "submitit", None)  # as Python marks a module that cannot be imported
    with pytest.raises(InputError, match=r"pip install -e '\.\[cluster\]'"):
        launch({})


def test_nothing_to_do_is_no_failure(launch: Callable[..., Launch[Item]]) -> None:
    assert launch({"first": {}, "second": {}}) == Launch()


def test_a_machine_without_slurm_says_so(
    launch: Callable[..., Launch[Item]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no Slurm here"):
        launch({"first": {"a": "note"}}, launcher="slurm")


@needs_slurm
def test_slurm_runs_an_array_per_stage(
    launch: Callable[..., Launch[Item]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"a": "refuse", "b": "killed", "c": "note"}
    sizes: dict[str, Any] = {"gpus": 0, "cpus": 1, "memory_gb": 0.5, "minutes": 5}
    done = launch({"first": first, "second": dict.fromkeys("de", "note")}, "slurm", wait=True, jobs=2, **sizes)
    assert _names(done.finished) == ["c", "d", "e"]
    why = {item.name: why for item, why in done.failed}
    assert why["a"] == "a lacks a file: 'inside'"
    assert "killed" in why["b"]
    told = _told(tmp_path)
    assert min(told[name][0] for name in "de") > told["c"][1]
    assert {row[2] for row in told.values()} == {row[4] for row in told.values()} == {"1"}
    said = capsys.readouterr().out
    assert f"squeue --jobs={done.ids['first']},{done.ids['second']}" in said
    (script,) = tmp_path.glob(f"jobs/*/{done.ids['second']}_submission.sh")
    assert f"#SBATCH --dependency=afterany:{done.ids['first']}" in script.read_text()
    assert "#SBATCH --array=0-1%2" in script.read_text()


@needs_slurm
def test_slurm_jobs_are_handed_over_and_not_waited_for(
    launch: Callable[..., Launch[Item]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = launch({"first": {"a": "linger"}}, "slurm", gpus=0, cpus=1, memory_gb=0.5, minutes=5)
    assert (_names(done.left), done.finished, done.failed) == (["a"], [], [])
    assert f"scancel {done.ids['first']}" in capsys.readouterr().out
    with pytest.raises(InputError, match=f"still has jobs of this grid.* scancel {done.ids['first']} first"):
        launch({"first": {"a": "linger"}}, "slurm")
    subprocess.run(["scancel", done.ids["first"]], check=True)
    until = time.monotonic() + LIMIT
    while "experiment-first" in _queued():  # Slurm tells no one
        assert time.monotonic() < until
        time.sleep(1)


@needs_slurm
def test_what_slurm_refuses_is_told_and_nothing_stays_queued(launch: Callable[..., Launch[Item]]) -> None:
    with pytest.raises(InputError, match=r"Slurm refused the jobs .*[Pp]artition"):
        launch({"first": dict.fromkeys("ab", "note")}, "slurm", partition="nowhere")
    assert "experiment-first" not in _queued()


def _queued() -> str:
    return subprocess.run(["squeue", "--noheader", "--format=%j"], capture_output=True, text=True, check=True).stdout
