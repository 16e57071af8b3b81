"""Measure on held-out subjects how little an encoder's features depend on the sequence."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events

from scripts.handlers.feature_step import FeatureStep
from scripts.handlers.invariance_text import format_table, untrained_warning
from scripts.handlers.mlflow_run import log_evaluation
from scripts.io.files import atomic_write
from scripts.metrics.brain_cells import Cells
from scripts.metrics.invariance import invariance_table
from scripts.ranks import rank

__all__ = ["InvarianceReport"]

logger = logging.getLogger(__name__)


class InvarianceReport:
    """Gather the features of all batches; at the end write, print and track the table of measures.

    Args:
        step: the evaluator's `FeatureStep`.
        output_dir: where ``invariance.csv`` goes.
        data: the result of `scripts.sources.pretraining_data.pretraining_data`.
        run: arguments of `scripts.handlers.mlflow_run.MLflowRun`; None tracks nothing.
    """

    def __init__(
        self,
        step: FeatureStep,
        output_dir: str | Path,
        data: Mapping[str, Any],
        run: Mapping[str, Any] | None = None,
    ) -> None:
        self.step = step
        self.output_dir = Path(output_dir)
        self.data = data
        self.run = run
        self.batches: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.batches.append(e.state.output))
            engine.add_event_handler(Events.COMPLETED, self._report)

    def table(self) -> pd.DataFrame:
        """Return the measures of every encoder, one row each, with a column ``encoder``."""
        subjects = [name for batch in self.batches for name in batch["subject"]]
        tissue = torch.cat([batch["tissue"] for batch in self.batches])
        parts = []
        for encoder in self.step.encoders:
            pooled = torch.cat([batch[encoder]["pooled"] for batch in self.batches])
            for number, level in enumerate(self.step.dense_levels):
                cells = self._cells(encoder, level, subjects)
                part = invariance_table(
                    pooled, cells, subjects=subjects, sequences=self.step.views.sequences, tissue=tissue
                )
                part = part if number == 0 else part[part["level"] == "dense"]
                label = "dense" if level == self.step.dense_levels[0] else f"dense, level {level}"
                parts.append(part.assign(encoder=encoder, level=part["level"].replace("dense", label)))
        return pd.concat(parts, ignore_index=True)

    def _cells(self, encoder: str, level: int, subjects: list[str]) -> Cells:
        sampled = [cell for batch in self.batches for cell in batch[encoder][level]]
        counts = [len(features) for features, _ in sampled]
        return Cells(
            np.concatenate([features for features, _ in sampled]).astype(np.float64),
            np.repeat(subjects, counts),
            np.concatenate([tissue for _, tissue in sampled]).astype(np.float64),
        )

    def _start(self, _engine: Engine) -> None:
        self.batches = []
        logger.info(
            "Measuring invariance on %d held-out subjects (%s cohort) across %s",
            len(self.data["test"]),
            self.data["cohort"],
            ", ".join(self.step.views.sequences),
        )

    def _report(self, _engine: Engine) -> None:
        table = self.table()
        table["cohort"] = self.data["cohort"]
        path = self.output_dir / "invariance.csv"
        atomic_write(path, lambda part: table.to_csv(part, index=False))
        logger.info("%s", format_table(table, list(self.step.encoders)))
        logger.info(
            "%d anatomies of %d held-out subjects of the %s cohort; intervals are 95 %%, over subjects.\nTable: %s",
            sum(len(batch["subject"]) for batch in self.batches),
            len(self.data["test"]),
            self.data["cohort"],
            path,
        )
        warning = untrained_warning(table)
        if warning:
            logger.warning("%s", warning)
        if self.run is not None:
            self._track(table, path)

    def _track(self, table: pd.DataFrame, path: Path) -> None:
        names = table["encoder"] + "/" + table["level"].str.replace(", ", " ") + "/" + table["metric"]
        values = {f"invariance/{name}": value for name, value in zip(names, table["value"], strict=True)}
        log_evaluation(self.run or {}, values, [path], {"evaluated": "yes"})
