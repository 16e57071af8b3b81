"""One MLflow run per training run: created once, continued when the training continues."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from scripts.workflow.checkpoint import Checkpointing, atomic_write
from scripts.workflow.ranks import rank

__all__ = ["MLflowRun", "TrackTraining", "default_store", "running_config"]

logger = logging.getLogger(__name__)


def default_store() -> str:
    """Return the URI of the one store of the checkout (or of the unpacked bundle): ``mlruns.db`` at its root.

    The environment variable ``MLFLOW_TRACKING_URI`` takes precedence, as it does in MLflow.
    """
    root = Path(__file__).resolve().parents[2]
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{root / 'mlruns.db'}"


def running_config() -> dict[str, Any]:
    """Return the merged configuration that is being instantiated right now, {} outside of a bundle.

    MONAI hands a component its own arguments only. The parser that instantiates it stands on the call stack,
    and holds all files with all overrides.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        parser = frame.f_locals.get("self")
        if isinstance(parser, ConfigParser) and "run" in parser:
            config: dict[str, Any] = json.loads(json.dumps(parser.config, default=str))
            return config
        frame = frame.f_back
    return {}


class MLflowRun:
    """A run in an MLflow store, found again by its id.

    Args:
        uri: SQLite or server URI; None takes `default_store`.
        experiment: experiment name, created where missing.
        name: run name; made unique by a time stamp and a random suffix.
        tags: tags of the run.
        params: parameters of the run.
        memory: JSON file that remembers the run's id, so that the next process continues it.
        resume: False starts a new run even if ``memory`` holds one.
    """

    def __init__(
        self,
        uri: str | None,
        experiment: str,
        name: str,
        tags: Mapping[str, Any],
        params: Mapping[str, Any],
        memory: str | Path,
        *,
        resume: bool = True,
    ) -> None:
        client_class = _quiet_client()
        self.uri = uri or default_store()
        self.client = client_class(self.uri)
        self.memory = Path(memory)
        self.run_id = self._known_run() if resume else None
        if self.run_id is not None:
            self.client.update_run(self.run_id, status="RUNNING")
            return
        unique = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        created = self.client.create_run(
            self._experiment_id(experiment),
            run_name=unique,
            tags={k: str(v) for k, v in {**tags, "git_commit": _git_commit()}.items()},
        )
        self.run_id = created.info.run_id
        for key, value in params.items():
            self.client.log_param(self.run_id, key, value)
        record = {"run_id": self.run_id, "run_name": unique, "tracking_uri": self.uri}
        atomic_write(self.memory, lambda part: part.write_text(json.dumps(record, indent=4)))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log scalars at one step."""
        self.log_many([(step, values)])

    def log_many(self, rows: list[tuple[int, Mapping[str, float]]]) -> None:
        """Log scalars of many steps in few transactions."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(k, float(v), now, step) for step, values in rows for k, v in values.items()]
        for first in range(0, len(metrics), 1000):
            self.client.log_batch(self.run_id, metrics=metrics[first : first + 1000])

    def log_file(self, path: str | Path, folder: str | None = None) -> None:
        """Copy a file to the run's artifacts."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def log_json(self, content: Any, name: str) -> None:
        """Write ``content`` as a JSON artifact."""
        self.client.log_dict(self.run_id, content, name)

    def tag(self, **tags: Any) -> None:
        """Set tags."""
        for key, value in tags.items():
            self.client.set_tag(self.run_id, key, str(value))

    def close(self, status: str = "FINISHED") -> None:
        """End the run."""
        self.client.set_terminated(self.run_id, status)

    def _known_run(self) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            record = json.loads(self.memory.read_text())
            return str(self.client.get_run(record["run_id"]).info.run_id)
        except (OSError, ValueError, KeyError, MlflowException):
            return None

    def _experiment_id(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = None
        if self.uri.startswith("sqlite:///"):
            place = (Path(self.uri.removeprefix("sqlite:///")).resolve().parent / "mlruns" / name).as_uri()
        return str(self.client.create_experiment(name, artifact_location=place))


class TrackTraining:
    """Log a training to MLflow: tags, parameters, merged configuration, every step's loss terms, validation.

    Steps are buffered and written once an epoch, just before the checkpoint, so that a killed and continued
    run has every step once. Attach it before `Checkpointing`.

    Args:
        experiment: MLflow experiment.
        name: beginning of the run's name.
        tags: tags of the run.
        checkpointing: tells whether and whence the training is continued; its settings become parameters.
        loss: its ``terms`` are logged at each step.
        evaluator: its metrics are logged when it has run.
        uri: see `MLflowRun`.
    """

    def __init__(
        self,
        experiment: str,
        name: str,
        tags: Mapping[str, Any],
        checkpointing: Checkpointing,
        loss: Any,
        evaluator: Any = None,
        uri: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.name = name
        self.tags = tags
        self.checkpointing = checkpointing
        self.loss = loss
        self.evaluator = evaluator
        self.uri = uri
        self.run: MLflowRun | None = None
        self.config = running_config()
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        self.validated_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, on rank 0."""
        if rank():
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Any) -> None:
        settings = self.checkpointing.settings
        params = {
            **settings,
            "max_epochs": engine.state.max_epochs,
            "epoch_length": engine.state.epoch_length,
        }
        self.run = MLflowRun(
            self.uri,
            self.experiment,
            self.name,
            self.tags,
            params,
            self.checkpointing.directory / "mlflow_run.json",
            resume=self.checkpointing.resume,
        )
        if self.config:
            self.run.log_json(self.config, "config.json")

    def _step(self, engine: Any) -> None:
        terms = {f"train_{k}": v for k, v in self.loss.terms.items()}
        self.rows.append((engine.state.iteration, terms))

    def _epoch(self, engine: Any) -> None:
        if self.run is None:
            return
        rows = [(step, {k: float(v) for k, v in terms.items()}) for step, terms in self.rows]
        last = {"epoch": engine.state.epoch, "learning_rate": engine.optimizer.param_groups[0]["lr"]}
        if self.evaluator is not None and self.evaluator.state.epoch != self.validated_epoch:
            last.update(self.evaluator.state.metrics)
            self.validated_epoch = self.evaluator.state.epoch
        self.run.log_many([*rows, (engine.state.iteration, last)])
        self.rows = []

    def _finish(self, _engine: Engine) -> None:
        if self.run is not None:
            if self.checkpointing.model_path.is_file():
                content = self.checkpointing.model_path.read_bytes()
                self.run.tag(encoder_sha=hashlib.sha256(content).hexdigest())
            self.run.close()

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        if self.run is not None:
            self.run.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise error


def _quiet_client() -> Any:
    """Return MLflow's client class, imported late because it takes seconds, without migration logs."""
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    return MlflowClient


def _git_commit() -> str:
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
