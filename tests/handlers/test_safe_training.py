"""What a training loses to a loss that is no number, to a second run, and to a store that fails: nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from scripts.errors import DiskFullError, InputError
from scripts.handlers.checkpoint import save_tensors
from scripts.handlers.folder_claim import FolderClaim
from scripts.handlers.mlflow_store import open_store
from scripts.handlers.store_client import StoreClient
from scripts.io.files import atomic_write
from tests.commands.client import Commands
from tests.handlers.test_checkpoint import training

ROOT = Path(__file__).resolve().parents[2]


def spoil(engine: Engine, network: torch.nn.Module, epoch: int, how: str) -> None:
    """Let the loss, or only the weights after the last step, become NaN in an epoch."""

    @engine.on(Events.ITERATION_COMPLETED)
    def _(engine: Any) -> None:
        engine.state.output = {"loss": torch.tensor(1.0)}
        if engine.state.epoch == epoch and how == "loss":
            engine.state.output = {"loss": torch.tensor(float("inf"))}
        if engine.state.epoch == epoch and how == "weights":
            with torch.no_grad():
                network.encoder.weight[0, 0] = float("nan")


@pytest.mark.parametrize("how", ["loss", "weights"])
def test_no_checkpoint_is_lost_to_what_is_no_number(tmp_path: Path, how: str) -> None:
    _, engine, network = training(tmp_path)
    # the handlers of a checkpoint are attached already; what spoils has to come before them
    checks = engine._event_handlers[Events.ITERATION_COMPLETED][:]
    engine._event_handlers[Events.ITERATION_COMPLETED].clear()
    spoil(engine, network, 3, how)
    engine._event_handlers[Events.ITERATION_COMPLETED].extend(checks)
    with pytest.raises(
        InputError, match=r"no finite numbers at step \d+, in epoch 3: .*holds the last good epoch"
    ) as told:
        engine.run([0] * 4, max_epochs=5)
    assert str(tmp_path / "checkpoint.pt") in str(told.value)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["epoch"] == 2
    assert all(value.isfinite().all() for value in saved["model"].values())
    assert all(value.isfinite().all() for value in torch.load(tmp_path / "model.pt", weights_only=True).values())


HOLD = """
import sys
from pathlib import Path
from scripts.handlers.checkpoint import save_tensors
from scripts.handlers.folder_claim import FolderClaim
claim = FolderClaim(Path(sys.argv[1]))
claim.take()
print("taken", flush=True)
sys.stdin.readline()
"""


def test_a_second_run_in_a_folder_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        checkpointing, engine, _ = training(tmp_path)
        with pytest.raises(InputError, match=f"process {other.pid} of .* is training into it: wait for it, or choose"):
            engine.run([0] * 4, max_epochs=1)
        assert not checkpointing.path.exists()
    finally:
        other.kill()  # gives it back, too
        other.communicate()
    checkpointing, engine, _ = training(tmp_path)
    engine.run([0] * 4, max_epochs=1)
    assert checkpointing.path.exists()
    assert not (tmp_path / ".claim").exists()


def test_a_claim_is_of_one_process_and_can_be_taken_again(tmp_path: Path) -> None:
    first, second = FolderClaim(tmp_path), FolderClaim(tmp_path)
    first.take()
    first.take()
    second.take()  # the same process: one training after another, of which the first failed
    second.give_back()
    first.give_back()
    assert list(tmp_path.iterdir()) == []


def locked(path: Path) -> Callable[[], None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection.close


def read_only(path: Path) -> Callable[[], None]:
    path.chmod(0o444)
    path.parent.chmod(0o555)
    return lambda: path.parent.chmod(0o755)


def overwritten(path: Path) -> Callable[[], None]:
    path.write_bytes(b"no database at all" * 1000)
    return lambda: None


def cut(path: Path) -> Callable[[], None]:
    path.write_bytes(path.read_bytes()[:8192])
    return lambda: None


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (overwritten, "file is not a database.*move the file away"),
        (cut, "malformed.*move the file away"),
        pytest.param(
            read_only,
            "cannot be written: change the rights",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere"),
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, ready_store: Path, spoil: Callable[[Path], Callable[[], None]], line: str
) -> None:
    path = tmp_path / "deep" / "mlruns.db"
    path.parent.mkdir()
    path.write_bytes(ready_store.read_bytes())
    end = spoil(path)
    try:
        with pytest.raises(InputError, match=line) as told:
            open_store(f"sqlite:///{path}").search_experiments()
        assert str(path) in str(told.value)
    finally:
        end()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("(sqlite3.OperationalError) database is locked", "another program writes to it"),
        ("(sqlite3.OperationalError) database or disk is full", "make room there"),
        ("attempt to write a readonly database", "change the rights of the file"),
        ("API request failed: Max retries exceeded with url", "no server answers there"),
    ],
)
def test_what_a_store_says_later_is_told_in_a_line(said: str, line: str) -> None:
    class Client:
        def log_batch(self, run_id: str) -> None:
            raise RuntimeError(said)

        def get_run(self, run_id: str) -> None:
            raise KeyError(run_id)

    client = StoreClient("sqlite:///x.db")
    client.client = Client()
    with pytest.raises(InputError, match=f"^sqlite:///x.db: the tracking store cannot be used .*{line}"):
        client.log_batch("1")
    with pytest.raises(KeyError):  # that is no fault of the store
        client.get_run("1")


def test_ctrl_c_prints_one_line_with_the_command_that_goes_on(commands: Commands, tmp_path: Path) -> None:
    code = "from scripts.errors import report_input_errors; report_input_errors()\nraise KeyboardInterrupt"
    done = commands.run([sys.executable, "-c", code, "run", "--config_file", "a b.json"], cwd=ROOT)
    assert done.returncode != 0
    line = "interrupted: what was finished stays, and the same command goes on: "
    assert done.stderr.strip() == f"{line}python -m monai.bundle run --config_file 'a b.json'"
    assert "Traceback" not in done.stdout + done.stderr


def test_memory_that_is_refused_is_told_in_a_line(commands: Commands) -> None:
    code = "from scripts.errors import report_input_errors; report_input_errors()\nimport torch; torch.empty(1 << 50)"
    done = commands.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: not enough memory: choose a smaller --batch_size")
    assert len(done.stderr.splitlines()) == 1


def full_disk(path: Path) -> Path:
    """Return a folder of a small file system that is mounted for this; skips where that is not allowed."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    return path


def test_a_full_disk_is_told_whoever_writes(tmp_path: Path) -> None:
    """Python, torch by a stream, torch by a path, and matplotlib each fail in a way of their own."""
    folder = full_disk(tmp_path / "full")
    figure = plt.figure(figsize=(8, 8))
    figure.add_subplot().imshow(np.random.default_rng(0).random((400, 400)))
    content = torch.zeros(1 << 18)
    try:
        for write in (
            lambda: save_tensors(content, folder / "a.pt"),
            lambda: atomic_write(folder / "b.pt", lambda part: torch.save(content, part)),
            lambda: atomic_write(folder / "c.bin", lambda part: part.write_bytes(bytes(1 << 20))),
            lambda: atomic_write(folder / "d.png", lambda part: figure.savefig(part, dpi=200)),
        ):
            with pytest.raises(DiskFullError, match=r"full/[abcd].* cannot be written .*: make room there"):
                write()
            assert list(folder.iterdir()) == []
    finally:
        plt.close(figure)
        subprocess.run(["umount", str(folder)], check=True)
