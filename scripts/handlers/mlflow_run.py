"""A run in an MLflow store that later processes find again."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.handlers.mlflow_store import (
    CELL_TAG,
    GRID_TAG,
    default_store,
    ensure_parent,
    experiment_id,
    git_commit,
    open_store,
)
from scripts.io.files import atomic_write

__all__ = ["MLflowRun", "log_evaluation"]

logger = logging.getLogger(__name__)

_PARENT = "mlflow.parentRunId"
_BATCH = 1000  # metrics that MLflow takes at once
_PARAMS = 100  # parameters that it takes at once


class MLflowRun:
    """A run in an MLflow store, found again by its id.

    Args:
        uri: SQLite or server URI; None takes `default_store`.
        experiment: experiment name, created where missing.
        name: run name; made unique by a time stamp and a random suffix.
        tags: tags of the run.
        params: parameters of the run.
        memory: JSON file that remembers the run's id, so that the next process continues it.
        resume: False starts a new run even if ``memory`` holds one; so do parameters that differ from those of
            the remembered run, other than ``max_epochs``.
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
        self.uri = uri or default_store()
        self.client = open_store(self.uri)
        self.memory = Path(memory)
        self.run_id = self._known_run(params) if resume else None
        if self.run_id is not None:
            self.client.update_run(self.run_id, status="RUNNING")
            return
        unique = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}"
        all_tags = {k: str(v) for k, v in {**tags, "git_commit": git_commit()}.items()}
        grid, _, cell = all_tags.pop(CELL_TAG, "").partition("/")
        if cell:
            parent = ensure_parent(self.client, self.uri, experiment, grid)
            all_tags.update({CELL_TAG: cell, GRID_TAG: grid, _PARENT: parent.info.run_id})
        created = self.client.create_run(
            experiment_id(self.client, self.uri, experiment), run_name=unique, tags=all_tags
        )
        self.run_id = created.info.run_id
        self._log_params(params)
        record = {"run_id": self.run_id, "run_name": unique, "tracking_uri": self.uri}
        atomic_write(self.memory, lambda part: part.write_text(json.dumps(record, indent=4)))

    def _log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters in as few transactions as MLflow takes: one by one they would need most of its time."""
        from mlflow.entities import Param

        given = [Param(key, str(value)) for key, value in params.items()]
        for begin in range(0, len(given), _PARAMS):
            self.client.log_batch(self.run_id, params=given[begin : begin + _PARAMS])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log scalars at one step."""
        self.log_many([(step, values)])

    def log_many(self, rows: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log scalars of many steps in few transactions; those of one step are logged all or none."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        batch: list[Metric] = []
        for step, values in rows:
            metrics = [Metric(k, float(v), now, step) for k, v in values.items()]
            if len(batch) + len(metrics) > _BATCH:
                self.client.log_batch(self.run_id, metrics=batch)
                batch = []
            batch += metrics
        self.client.log_batch(self.run_id, metrics=batch)

    def logged_steps(self, metric: str) -> set[int]:
        """Return the steps at which a metric is logged already."""
        return {entry.step for entry in self.client.get_metric_history(self.run_id, metric)}

    def last(self, metric: str) -> float:
        """Return the last value of a metric, 0 where there is none."""
        return float(self.client.get_run(self.run_id).data.metrics.get(metric, 0.0))

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

    def _known_run(self, params: Mapping[str, Any]) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            record = json.loads(self.memory.read_text())
            known = self.client.get_run(record["run_id"])
        except (OSError, ValueError, KeyError, MlflowException):
            return None
        theirs = known.data.params
        same = all(theirs.get(k, str(v)) == str(v) for k, v in params.items() if k != "max_epochs")
        return str(known.info.run_id) if same else None


def log_evaluation(
    run: Mapping[str, Any], values: Mapping[str, float], paths: Sequence[Path], tags: Mapping[str, Any]
) -> None:
    """Put what an evaluation found into its run, and say which that is.

    Args:
        run: arguments of `MLflowRun`, of which tags and parameters may lack.
        values: name -> measure.
        paths: tables and pictures that are kept with it.
        tags: that the run gets.
    """
    opened = MLflowRun(**{"tags": {}, "params": {}, **run})
    opened.log(values, step=0)
    for path in paths:
        opened.log_file(path)
    opened.tag(**tags)
    opened.close()
    logger.info("MLflow: run %s in %s", opened.run_id, opened.uri)
