from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.handlers.mlflow_store import ensure_parent, find_parent
from scripts.handlers.tracking import MLflowRun


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without runs; MLflow takes a second and more to make one."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "runs.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def make(empty_store: Path, tmp_path: Path) -> Any:
    shutil.copy(empty_store, tmp_path / "runs.db")

    def run(**changed: Any) -> MLflowRun:
        given: dict[str, Any] = {"tags": {"seed": 1}, "params": {"size": 2, "max_epochs": 3}, **changed}
        return MLflowRun(f"sqlite:///{tmp_path / 'runs.db'}", "trial", "name", memory=tmp_path / "run.json", **given)

    return run


def test_a_run_is_found_again_and_its_steps_with_it(make: Any, tmp_path: Path) -> None:
    first = make()
    first.log_many([(step, {"loss": step / 2, "other": 1.0}) for step in range(1, 1502)])
    second = make(params={"size": 2, "max_epochs": 9})
    assert second.run_id == first.run_id
    assert second.logged_steps("loss") == set(range(1, 1502))
    assert second.logged_steps("unknown") == set()
    history = second.client.get_metric_history(second.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(step, step / 2) for step in range(1, 1502)]
    second.close()
    run = second.client.get_run(second.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["seed"] == "1"
    assert run.data.params == {"size": "2", "max_epochs": "3"}


@pytest.mark.parametrize("changed", [{"resume": False}, {"params": {"size": 3}}], ids=["anew", "other settings"])
def test_another_run_gets_a_name_of_its_own(make: Any, changed: dict[str, Any]) -> None:
    first, second = make(), make(**changed)
    assert second.run_id != first.run_id
    names = [run.client.get_run(run.run_id).info.run_name for run in (first, second)]
    assert names[0] != names[1]
    assert make(params=changed.get("params", {})).run_id == second.run_id


@pytest.mark.parametrize("content", ["", "{}", '{"run_id": "0123456789abcdef"}'], ids=["empty", "no id", "gone"])
def test_a_useless_memory_starts_a_new_run(make: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    run = make()
    assert run.client.get_run(run.run_id).info.status == "RUNNING"
    assert run.run_id in (tmp_path / "run.json").read_text()


def test_files_lie_beside_the_store(make: Any, tmp_path: Path) -> None:
    run = make()
    (tmp_path / "note.txt").write_text("seen")
    run.log_file(tmp_path / "note.txt", "notes")
    run.log_json({"a": [1]}, "config.json")
    artifacts = tmp_path / "mlruns" / "trial" / run.run_id / "artifacts"
    assert (artifacts / "notes" / "note.txt").read_text() == "seen"
    assert (artifacts / "config.json").is_file()


def test_the_runs_of_a_grid_lie_beneath_its_own(make: Any, tmp_path: Path) -> None:
    first = make(tags={"cell": "mini/a-1"})
    second = make(tags={"cell": "mini/b-2"}, resume=False)
    other = make(tags={"cell": "", "seed": 3}, resume=False)
    parent = find_parent(first.client, "mini")
    found = [run.client.get_run(run.run_id).data.tags for run in (first, second, other)]
    assert [tags.get("mlflow.parentRunId") for tags in found] == [parent.info.run_id] * 2 + [None]
    assert [tags.get("cell") for tags in found] == ["a-1", "b-2", None]
    assert [tags.get("grid") for tags in found] == ["mini", "mini", None]
    assert find_parent(first.client, "gpu") is None
    assert ensure_parent(first.client, first.uri, "trial", "mini").info.run_id == parent.info.run_id


def test_the_last_value_of_a_metric(make: Any) -> None:
    run = make()
    assert run.last("minutes") == 0.0
    run.log_many([(1, {"minutes": 0.5}), (2, {"minutes": 1.5})])
    assert run.last("minutes") == 1.5
