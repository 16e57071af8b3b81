"""Scores of every test subject, gathered into one table, summarised and tracked."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from ignite.engine import Engine, Events

from scripts.errors import InputError
from scripts.handlers.mlflow_run import log_evaluation
from scripts.io.files import atomic_write
from scripts.metrics.summary import COLUMNS, format_summary, summarise, tell_empty
from scripts.ranks import gather_rows, rank

__all__ = ["EvaluationReport", "Extra"]

logger = logging.getLogger(__name__)


class Extra(Protocol):
    """Something more that an evaluation leaves behind."""

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""

    def write(self, engine: Any, scores: pd.DataFrame, output_dir: Path) -> Path | None:
        """Write a table once all subjects are scored, on every rank; rank 0 returns its path."""


class EvaluationReport:
    """Collect the scores of all samples; at the end write, print and track their table and its summary.

    The postprocessing of the evaluator has to put ``scores`` into each sample, whose data have ``subject`` and
    ``site``. A distributed run gathers them; a subject that the sampler gave to several processes counts once.

    Args:
        output_dir: where ``metrics.csv`` and ``summary.csv`` go.
        data: the result of `scripts.sources.downstream_data.downstream_data`; its ``cohort`` is told.
        task: name of the bundle.
        modality: that is tested on.
        run: arguments of `scripts.handlers.mlflow_run.MLflowRun`; None tracks nothing.
        extras: write tables of their own, which are tracked along.
    """

    def __init__(
        self,
        output_dir: str | Path,
        data: Mapping[str, Any],
        *,
        task: str,
        modality: str,
        run: Mapping[str, Any] | None = None,
        extras: Sequence[Extra] = (),
    ) -> None:
        self.extras = tuple(extras)
        self.output_dir = Path(output_dir)
        self.data, self.run = data, run
        self.task, self.modality = task, modality
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, on every rank; rank 0 writes."""
        for extra in self.extras:
            extra.attach(engine)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def table(self) -> pd.DataFrame:
        """Return the scores gathered so far by this process, sorted by site and subject.

        Raises:
            InputError: there are none.
        """
        if not self.rows:
            raise InputError(f"{self.task}: no {self.modality} image was evaluated: give a dataset with test subjects")
        table = pd.DataFrame(self.rows, columns=list(COLUMNS))
        return table.sort_values(["site", "subject"], kind="stable", ignore_index=True)

    def _start(self, _engine: Engine) -> None:
        self.rows = []

    def _collect(self, engine: Any) -> None:
        # MONAI keeps what the loader gave in the batch and what was added in the output
        for given, added in zip(engine.state.batch, engine.state.output, strict=True):
            sample = {**given, **added}
            missing = ", ".join(key for key in ("subject", "site", "scores") if key not in sample)
            if missing:
                raise InputError(f"a test sample has no {missing}: name it in the dataset, score it in postprocessing")
            case = {"subject": str(sample["subject"]), "site": str(sample["site"]), "modality": self.modality}
            self.rows += [{**case, **row} for row in sample["scores"]]

    def _report(self, engine: Engine) -> None:
        self.rows = gather_rows(self.rows)
        table = self.table()
        extras = [extra.write(engine, table, self.output_dir) for extra in self.extras]
        if rank() != 0:
            return
        scores = atomic_write(self.output_dir / "metrics.csv", partial(table.to_csv, index=False))
        summary = summarise(table)
        means = atomic_write(self.output_dir / "summary.csv", partial(summary.to_csv, index=False))
        n_subjects, cohort = len(table[["site", "subject"]].drop_duplicates()), self.data["cohort"]
        logger.info("%s", format_summary(summary))
        logger.info("%s on %s: %d test subjects of the %s cohort", self.task, self.modality, n_subjects, cohort)
        logger.info("Intervals are over subjects. %s\nTable: %s\nSummary: %s", tell_empty(table), scores, means)
        if self.run is not None:
            self._track(summary, (scores, means, *(path for path in extras if path is not None)))

    def _track(self, summary: pd.DataFrame, paths: Sequence[Path]) -> None:
        names = [[_allowed(row[key]) for key in ("site", "class", "metric")] for _, row in summary.iterrows()]
        values = {f"test/{'/'.join(name)}": mean for name, mean in zip(names, summary["mean"], strict=True)}
        log_evaluation(self.run or {}, values, paths, {"evaluated": "yes"})


def _allowed(name: str) -> str:
    """Return a name in the characters that MLflow takes."""
    return re.sub(r"[^\w\-. ]", "_", name, flags=re.ASCII) or "unknown"
