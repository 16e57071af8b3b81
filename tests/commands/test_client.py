"""A command by a fork is the command that a new process of Python runs: words, places, exit, signals, fresh state."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.commands.client import CAN_FORK, Commands
from tests.events import all_end, handles, offspring

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="no forks on this system")
ROOT = Path(__file__).resolve().parents[2]

ABOUT = """
import json, os, random, signal, sys, threading, warnings
print(json.dumps({
    "argv": sys.argv, "name": __name__, "first": sys.path[0], "cwd": os.getcwd(), "env": dict(os.environ),
    "main": "ABOUT" in dir(__import__("__main__")), "input": sys.stdin.read(), "warn": sys.warnoptions,
    "bytecode": sys.dont_write_bytecode, "interrupt": str(signal.getsignal(signal.SIGINT)),
    "own": os.getsid(0) == os.getpid(), "fds": sorted(os.listdir("/proc/self/fd")),
    "threads": threading.active_count(), "scripts": [m for m in sys.modules if m.split(".")[0] == "scripts"],
}))
ABOUT = 1
"""


@pytest.fixture
def env() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "MINE": "yes", "TZ": "Asia/Tokyo"}


def both(commands: Commands, words: list[str], cwd: Path, env: Mapping[str, str]) -> list[tuple[int, str, str]]:
    """Return status, output and errors of a command, by a fork and by a new process."""
    with pytest.MonkeyPatch.context() as patch:
        forked = commands.run([sys.executable, *words], cwd=cwd, env=env)
        patch.setattr("tests.commands.client.CAN_FORK", False)
        fresh = commands.run([sys.executable, *words], cwd=cwd, env=env)
    return [(done.returncode, done.stdout, done.stderr) for done in (forked, fresh)]


def is_fork(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a process has had torch from its birth."""
    return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize(
    "options",
    [["-c", ABOUT], ["-W", "ignore", "-B", "-c", ABOUT], ["about.py"], ["-m", "about"]],
    ids=["code", "options", "file", "module"],
)
def test_a_command_finds_what_a_new_process_finds(
    options: list[str], commands: Commands, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "about.py").write_text(ABOUT)
    found = both(commands, [*options, "--a", "b c"], tmp_path, {**env, "PYTHONPATH": str(ROOT)})
    ours, theirs = (json.loads(out) for _, out, _ in found)
    assert ours == theirs
    assert ours["scripts"] == []


@pytest.mark.parametrize(
    "code",
    [
        *(
            "import sys; sys.exit()",
            "import sys; sys.exit(3)",
            "import sys; sys.exit(300)",
            "import sys; sys.exit('why')",
        ),
        *("import os; os._exit(4)", "print('said', end='')", "import sys; sys.stderr.write('said')"),
        "import atexit; atexit.register(print, 'last')",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import multiprocessing as m; p = m.get_context('fork').Process(target=print, args=(1,)); p.start(); p.join()",
        "import scripts; print(scripts.__file__)",
        "import time; print(time.strftime('%Z'))",
    ],
)
def test_a_command_ends_as_a_new_process_does(code: str, commands: Commands, env: dict[str, str]) -> None:
    forked, fresh = both(commands, ["-c", code], ROOT, env)
    assert forked == fresh


@pytest.mark.parametrize(("code", "status"), [("1 / 0", 1), ("raise KeyboardInterrupt", -signal.SIGINT)])
def test_an_exception_ends_it_by_the_interpreters_own_way(
    code: str, status: int, commands: Commands, env: dict[str, str]
) -> None:
    forked, fresh = both(commands, ["-c", code], ROOT, env)
    assert forked[:2] == fresh[:2] == (status, "")
    assert forked[2].splitlines()[-1] == fresh[2].splitlines()[-1]
    hooked = f"import sys; sys.excepthook = lambda *e: print('hooked', e[0].__name__)\n{code}"
    forked, fresh = both(commands, ["-c", hooked], ROOT, env)
    assert forked == fresh


def test_a_module_that_is_not_there(commands: Commands, env: dict[str, str]) -> None:
    forked, fresh = both(commands, ["-m", "nothing"], ROOT, env)
    assert forked == fresh
    assert forked[0] == 1


def test_random_numbers_are_new_in_every_process(commands: Commands, env: dict[str, str]) -> None:
    code = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    said = [commands.run([sys.executable, "-c", code], cwd=ROOT, env=env).stdout.split() for _ in range(3)]
    for drawn in zip(*said, strict=True):
        assert len(set(drawn)) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_it_and_not_the_server(number: int, commands: Commands, env: dict[str, str]) -> None:
    code = "import signal, time; print(1, flush=True); time.sleep(600)"
    for _ in range(2):
        read, write = os.pipe()
        command = commands.start([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=write, new_session=True)
        os.close(write)
        with os.fdopen(read) as said:
            assert said.readline() == "1\n"
            assert command.poll() is None
            os.killpg(command.pid, number)
            assert command.wait(60) == -number
            assert said.read() == ""


def test_a_command_that_hangs_is_ended(commands: Commands, env: dict[str, str]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        commands.run([sys.executable, "-c", "import time; time.sleep(600)"], cwd=ROOT, env=env, timeout=0.1)
    assert commands.run([sys.executable, "-c", "print(1)"], cwd=ROOT, env=env).stdout == "1\n"


@pytest.mark.parametrize(
    ("words", "changed"), [(["echo", "x"], {}), (None, {"OMP_NUM_THREADS": "2"}), (None, {"PYTHONHASHSEED": "3"})]
)
def test_what_a_fork_cannot_do_is_a_new_process(
    words: list[str] | None, changed: dict[str, str], commands: Commands, env: dict[str, str]
) -> None:
    """Libraries have read the number of threads, and Python its options, when they were loaded."""
    words = words or [sys.executable, "-c", "import time; print('x', flush=True); time.sleep(600)"]
    import sklearn  # noqa: F401 - sets variables of its own

    command = commands.start([sys.executable, "-c", "import time; time.sleep(600)"], cwd=ROOT, env=env)
    assert is_fork(command)
    command.kill()
    command.wait()
    with commands.start(words, cwd=ROOT, env={**env, **changed}, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        assert not is_fork(process)
        process.kill()


def test_a_new_store_is_a_copy_with_the_schema_of_mlflow(ready_store: Path, tmp_path: Path) -> None:
    import sqlite3

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'own.db'}")
    assert [experiment.name for experiment in client.search_experiments()] == ["Default"]
    dumps = [list(sqlite3.connect(path).iterdump()) for path in (ready_store, tmp_path / "own.db")]
    assert [line for line in dumps[0] if line.startswith("CREATE")] == [
        line for line in dumps[1] if line.startswith("CREATE")
    ]


SPAWN = """
import json, multiprocessing as m, os, signal, sys, warnings

def about(pipe, deep):
    found = {
        "argv": sys.argv, "name": __name__, "cwd": os.getcwd(), "parent": os.getppid(), "path": sys.path,
        "env": dict(os.environ), "fds": len(os.listdir("/proc/self/fd")), "warn": sys.warnoptions,
        "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)],
        "loaded": [n for n in sys.modules if n.split(".")[0] == "scripts"],
    }
    if deep:
        found["below"], found["status below"] = ask(False)
    pipe.send(found)
    sys.stdout.write("said ")
    sys.stdout.flush()
    sys.exit(7)

def ask(deep):
    context = m.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=about, args=(theirs, deep))
    process.start()
    found = ours.recv()
    process.join()
    assert found.pop("parent") == os.getpid()
    return found, process.exitcode

if __name__ == "__main__":
    import scripts.tasks
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.environ["MINE"] = "yes"
    os.chdir("/")
    print(json.dumps(ask(True)))
"""


def test_a_spawned_process_finds_what_a_new_python_finds(
    commands: Commands, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "spawn.py").write_text(SPAWN)
    (_, ours, _), (_, theirs, _) = both(commands, ["spawn.py"], tmp_path, {**env, "PYTHONPATH": str(ROOT)})
    assert ours.startswith("said said ")
    ours, theirs = (json.loads(said.removeprefix("said said ")) for said in (ours, theirs))
    assert ours == theirs
    assert ours[1] == ours[0]["status below"] == 7


BELOW = """
import json, os, signal, subprocess, sys

ABOUT = '''
import json, os, signal, sys
print(json.dumps({
    "argv": sys.argv, "name": __name__, "cwd": os.getcwd(), "parent": os.getppid(), "first": sys.path[:2],
    "env": dict(os.environ), "fds": len(os.listdir("/proc/self/fd")), "own": os.getsid(0) == os.getpid(),
    "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))), "input": sys.stdin.read(),
    "signals": [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)],
    "loaded": [n for n in sys.modules if n.split(".")[0] == "scripts"],
}))
sys.stderr.write("why")
os._exit(7)  # what was said arrives all the same, as nothing keeps it back
'''
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
os.environ["MINE"] = "yes"
read, write = os.pipe()
for given in ({"cwd": "/", "start_new_session": True}, {"env": {**os.environ, "X": "1"}, "pass_fds": [write]}):
    words = [sys.executable, "-u", "-c", ABOUT, "--a", "b c"]
    done = subprocess.run(words, input="text", capture_output=True, text=True, **given)
    found = json.loads(done.stdout)
    assert found.pop("parent") == os.getpid()
    print(json.dumps([found, done.stderr, done.returncode]))
"""


def test_a_process_of_popen_finds_what_a_new_python_finds(
    commands: Commands, env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "below.py").write_text(BELOW)
    ours, theirs = both(commands, ["below.py"], tmp_path, {**env, "PYTHONPATH": str(ROOT)})
    assert ours == theirs
    found = [json.loads(line) for line in ours[1].splitlines()]
    assert [(why, status) for _, why, status in found] == [("why", 7)] * 2
    assert [one["own"] for one, _, _ in found] == [True, False]


def spawned(code: str) -> None:
    exec(code)


def test_spawned_processes_of_the_tests_are_their_children(forked_processes: None) -> None:
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=spawned, args=("import time; time.sleep(600)",))
    process.start()
    assert process.pid is not None
    assert f"\nPPid:\t{os.getpid()}\n" in Path(f"/proc/{process.pid}/status").read_text()
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()


def test_processes_of_popen_end_by_signals_as_children_of_the_tests(forked_processes: None) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    assert f"\nPPid:\t{os.getpid()}\n" in Path(f"/proc/{process.pid}/status").read_text()
    assert is_fork(process)
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
    assert not Path(f"/proc/{process.pid}").exists()


def test_what_was_forked_for_spawning_ends_with_its_command(commands: Commands, env: dict[str, str]) -> None:
    read, write = os.pipe()
    code = "import time; print(1, flush=True); time.sleep(600)"
    command = commands.start([sys.executable, "-c", code], cwd=ROOT, env=env, stdout=write)
    os.close(write)
    with os.fdopen(read) as said:
        assert said.readline() == "1\n"
        below = offspring(command.pid)
        assert below
        with handles(below) as opened:
            command.kill()
            command.wait()
            assert all_end(opened)
