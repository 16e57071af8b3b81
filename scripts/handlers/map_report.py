"""Tell of held-out people how far found maps are from the true ones, and which residual a warning should begin at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from ignite.engine import Engine, Events

from scripts.handlers.map_step import CONTROLS
from scripts.handlers.mlflow_run import log_evaluation
from scripts.io.files import atomic_write
from scripts.metrics.bootstrap import bootstrap_interval
from scripts.ranks import rank
from scripts.views.map_targets import MAP_NAMES

__all__ = ["MapReport", "residual_limit"]

logger = logging.getLogger(__name__)

_UNITS = ("p.u.", "1/s", "1/s", "p.u.")
_SHARE = 0.95


def residual_limit(views: pd.Series[float]) -> float:
    """Return the residual that 95 % of views stay below, rounded up to two decimals and at most 1.

    Examples:
        >>> residual_limit(pd.Series([0.1] * 19 + [0.314, 0.9]))
        0.32
    """
    return min(-(-round(float(views.quantile(_SHARE, interpolation="lower")) * 1e4) // 100) / 100, 1.0)


class MapReport:
    """Gather the rows of `MapStep`; at the end write, print and track them.

    Args:
        output_dir: where ``map_errors.csv`` goes.
        data: the result of `scripts.sources.pretraining_data.pretraining_data`.
        run: arguments of `scripts.handlers.mlflow_run.MLflowRun`; None tracks nothing.
    """

    def __init__(self, output_dir: str | Path, data: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.data = data
        self.run = run
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Follow ``engine``, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.rows.extend(e.state.output))
            engine.add_event_handler(Events.COMPLETED, self._report)

    def _start(self, _engine: Engine) -> None:
        self.rows = []
        logger.info("Finding the maps of %d held-out subjects (%s cohort)", len(self.data["test"]), self.data["cohort"])

    def _report(self, _engine: Engine) -> None:
        table = pd.DataFrame(self.rows).assign(cohort=self.data["cohort"])
        path = self.output_dir / "map_errors.csv"
        atomic_write(path, lambda part: table.to_csv(part, index=False))
        views = table[table["image"] == "view"]
        logger.info("%s", "\n".join([*_error_lines(views), "", *_residual_lines(table)]))
        logger.info("%d views of %d held-out subjects.\nTable: %s", len(views), views["subject"].nunique(), path)
        if self.run is not None:
            values = {f"maps/error_{name}": float(views[f"error_{name}"].mean()) for name in MAP_NAMES}
            limit = residual_limit(views["residual"].dropna())
            log_evaluation(self.run, {**values, "maps/residual_limit": limit}, [path], {})


def _error_lines(views: pd.DataFrame) -> list[str]:
    """Return the mean absolute error of each map with its interval over subjects, and what the network expected."""
    lines = [f"{'map':8s}{'unit':>6s}{'mean absolute error':>32s}{'expected':>10s}"]
    for name, unit in zip(MAP_NAMES, _UNITS, strict=True):
        low, high = bootstrap_interval(views[f"error_{name}"], list(views["subject"]))
        shown = f"{views[f'error_{name}'].mean():.3f} [{low:.3f}, {high:.3f}]"
        expected = f"{views[f'expected_{name}'].mean():.3f}" if f"expected_{name}" in views else ""
        lines.append(f"{name:8s}{unit:>6s}{shown:>32s}{expected:>10s}")
    return lines


def _residual_lines(table: pd.DataFrame) -> list[str]:
    views = table[table["image"] == "view"]
    limit = residual_limit(views["residual"].dropna())
    shown = [("views", views["residual"]), ("their true maps", views["residual_true"])]
    shown += [(name, table[table["image"] == name]["residual"]) for name in CONTROLS]
    lines = [f"{'residual of':20s}{'median':>8s}{'95 %':>8s}{'largest':>9s}{f'above {limit:.2f}':>13s}"]
    for name, values in shown:
        part = values.dropna()
        numbers = f"{part.median():8.2f}{part.quantile(_SHARE):8.2f}{part.max():9.2f}{(part > limit).mean():13.0%}"
        lines.append(f"{name:20s}{numbers}")
    both = views[["residual", "error"]].dropna()
    if (both.nunique() > 1).all():
        rho = both["residual"].corr(both["error"], method="spearman")
        lines.append(f"Spearman's correlation of a view's residual with the error of its maps: {rho:.2f}")
    lines.append(f"95 % of the views lie below {limit:.2f}: type --residual_limit {limit:.2f} where maps are predicted")
    return lines
