from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.errors import InputError
from scripts.handlers.mlflow_store import _make_store, default_store, experiment_id, open_store


def test_default_store_lies_at_the_root_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = Path(__file__).resolve().parents[2]
    assert default_store() == f"sqlite:///{root / 'mlruns.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert default_store() == "http://host:5000"


def test_runs_that_begin_at_once_share_one_new_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlruns.db'}"
    with ThreadPoolExecutor(2) as pool:
        clients = list(pool.map(open_store, [uri] * 2))
    experiment = experiment_id(clients[0], uri, "trial")
    runs = {client.create_run(experiment).info.run_id for client in clients}
    assert {run.info.run_id for run in clients[1].search_runs([experiment])} == runs
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mlruns.db"]


def test_a_store_that_came_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "mlruns.db"
    with sqlite3.connect(path) as first:
        first.execute("CREATE TABLE of_the_first (id INTEGER)")
    content = path.read_bytes()
    _make_store(path)
    assert path.read_bytes() == content


def test_a_store_where_nothing_can_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"mlruns\.db: no store can be made there .*, give another tracking_uri"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'mlruns.db'}")
