"""The MLflow store: where it lies, how it is opened, and the runs that those of a grid lie beneath."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.handlers.store_client import StoreClient
from scripts.io.files import atomic_write

__all__ = [
    "CELL_TAG",
    "GRID_TAG",
    "default_store",
    "ensure_parent",
    "experiment_id",
    "find_parent",
    "git_commit",
    "open_store",
]

CELL_TAG = "cell"
"""Tag of a run that belongs to a grid: ``<grid>/<cell>``. Such runs lie beneath the grid's own run."""
GRID_TAG = "grid"
"""Tag with the name of the grid that a run belongs to."""

_SQLITE = "sqlite:///"


def default_store() -> str:
    """Return the URI of the one store of the checkout (or of the unpacked bundle): ``mlruns.db`` at its root.

    The environment variable ``MLFLOW_TRACKING_URI`` takes precedence, as it does in MLflow.
    """
    root = Path(__file__).resolve().parents[2]
    return os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{root / 'mlruns.db'}"


def open_store(uri: str) -> Any:
    """Return MLflow's client of a store, without its migration logs and bars; an SQLite file is made if missing.

    MLflow is imported with the first use of the client, as that takes seconds.

    Args:
        uri: SQLite or server URI.

    Raises:
        InputError: the SQLite file cannot be made or written; see also `StoreClient`.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # of 7, it takes minutes to tell of no server
    for logger in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    name = uri.removeprefix(_SQLITE)
    is_file = uri.startswith(_SQLITE) and name not in ("", ":memory:") and "?" not in name
    if is_file:
        _check_store(Path(name))
    return StoreClient(uri)


def _check_store(path: Path) -> None:
    """Make an SQLite file that is missing; refuse one that cannot be written, which MLflow would find out later."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the file of a store, or another tracking_uri")
    if not path.exists():
        _make_store(path)
    elif not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        raise InputError(
            f"{path} cannot be written: change the rights of the file and of its folder, or give another tracking_uri"
        )


def _make_store(path: Path) -> None:
    """Make an empty SQLite store that appears whole, unless there is one by then.

    MLflow would migrate the file in its place, step by step: runs that begin at once would get in each other's way
    ("duplicate column name").
    """
    whole = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mlflow-store-") as folder:
            draft = _migrate(Path(folder) / path.name)
            atomic_write(whole, lambda part: shutil.copyfile(draft, part))
    except (OSError, InputError) as error:
        raise InputError(f"{path}: no store can be made there ({error}), give another tracking_uri") from error
    # another run may have been first; and a file system without hard links leaves the making to MLflow
    with contextlib.suppress(OSError):
        path.hardlink_to(whole)
    whole.unlink()


def _migrate(draft: Path) -> Path:
    """Let MLflow make an empty store, without waiting for the disk at each of its steps."""
    from mlflow import MlflowClient
    from sqlalchemy import Engine, event

    def skip_syncing(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", skip_syncing)
    try:
        MlflowClient(f"{_SQLITE}{draft}").search_experiments()
    finally:
        event.remove(Engine, "connect", skip_syncing)
    return draft


def experiment_id(client: Any, uri: str, name: str) -> str:
    """Return the id of an experiment; make it where there is none, its files beside an SQLite store."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = None
    if uri.startswith(_SQLITE):
        place = (Path(uri.removeprefix(_SQLITE)).resolve().parent / "mlruns" / name).as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def find_parent(client: Any, grid: str) -> Any:
    """Return the run that the runs of a grid lie beneath, None where there is none."""
    experiments = [found.experiment_id for found in client.search_experiments()]
    quoted = grid.replace("'", "")
    found = client.search_runs(
        experiments, f"tags.grid_parent = '{quoted}'", order_by=["attributes.start_time ASC"], max_results=1
    )
    return found[0] if found else None


def ensure_parent(client: Any, uri: str, experiment: str, grid: str) -> Any:
    """Return the run that the runs of a grid lie beneath; make it where there is none."""
    parent = find_parent(client, grid)
    if parent is not None:
        return parent
    tags = {"grid_parent": grid, GRID_TAG: grid, "git_commit": git_commit()}
    return client.create_run(experiment_id(client, uri, experiment), run_name=grid, tags=tags)


def git_commit() -> str:
    """Return the commit of the checkout, ``unknown`` outside of one."""
    try:
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
