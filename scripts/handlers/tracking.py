"""One MLflow run per training run: created once, continued when the training continues."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events

from scripts.handlers.checkpoint import Checkpointing
from scripts.handlers.mlflow_run import MLflowRun
from scripts.ranks import rank

__all__ = ["TrackTraining"]


class TrackTraining:
    """Log a training to MLflow: tags, parameters, merged configuration, every step's loss terms, validation.

    Steps are buffered and written once an epoch, just before the checkpoint; a continued run leaves out those
    that it finds logged, so that it has every step once. Attach it before `Checkpointing`.

    Args:
        experiment: MLflow experiment.
        name: beginning of the run's name.
        tags: tags of the run.
        checkpointing: tells whether and whence the training is continued; its settings become parameters.
        loss: its ``terms`` are logged at each step.
        evaluator: its metrics are logged when it has run.
        uri: see `MLflowRun`.
        sha_tag: tag that gets the SHA-256 of the weights at the end.
        config: merged configuration as JSON, see `scripts.merged_config`; None logs none.
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
        sha_tag: str = "encoder_sha",
        config: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.name = name
        self.tags = tags
        self.checkpointing = checkpointing
        self.loss = loss
        self.evaluator = evaluator
        self.uri = uri
        self.sha_tag = sha_tag
        self.run: MLflowRun | None = None
        self.config = config
        self.rows: list[tuple[int, Mapping[str, float]]] = []
        self.logged: tuple[set[int], set[int]] = (set(), set())
        self.validated_epoch = 0
        self.trained = False
        self.began, self.minutes = time.monotonic(), 0.0

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
        self.checkpointing.claim()
        self.checkpointing.read()  # a refused checkpoint must not touch the run it belongs to
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
        self.logged = (self.run.logged_steps("train_loss"), self.run.logged_steps("epoch"))
        self.began, self.minutes = time.monotonic(), self.run.last("minutes")
        if self.config is not None:
            self.run.log_json(json.loads(self.config), "config.json")

    def _step(self, engine: Any) -> None:
        self.trained = True
        terms = {f"train_{k}": v for k, v in self.loss.terms.items()}
        self.rows.append((engine.state.iteration, terms))

    def _epoch(self, engine: Any) -> None:
        if self.run is None:
            return
        steps, epochs = self.logged
        rows: list[tuple[int, Mapping[str, float]]] = [
            (step, {k: float(v) for k, v in terms.items()}) for step, terms in self.rows if step not in steps
        ]
        last = {"epoch": engine.state.epoch, "learning_rate": engine.optimizer.param_groups[0]["lr"]}
        last["minutes"] = self.minutes + (time.monotonic() - self.began) / 60
        if self.evaluator is not None and self.evaluator.state.epoch != self.validated_epoch:
            last.update(self.evaluator.state.metrics)
            self.validated_epoch = self.evaluator.state.epoch
        if engine.state.iteration not in epochs:
            rows.append((engine.state.iteration, last))
        self.run.log_many(rows)
        self.rows = []

    def _finish(self, _engine: Engine) -> None:
        if self.run is not None:
            if self.trained:  # an evaluation of the weights before these says nothing about them
                self.run.tag(evaluated="no")
            if self.checkpointing.model_path.is_file():
                content = self.checkpointing.model_path.read_bytes()
                self.run.tag(**{self.sha_tag: hashlib.sha256(content).hexdigest()})
            self.run.close()

    def _fail(self, _engine: Engine, error: BaseException) -> None:
        if self.run is not None:
            with contextlib.suppress(Exception):  # of a store that may be what failed
                self.run.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise error
