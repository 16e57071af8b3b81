"""Measure on held-out subjects how little an encoder's features depend on the sequence."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.handlers.invariance_text import format_table, told_if_worse_than_untrained
from scripts.handlers.mlflow_run import MLflowRun
from scripts.io.files import atomic_write
from scripts.metrics.brain_cells import Cells, sample_cells
from scripts.metrics.invariance import invariance_table
from scripts.metrics.tissue_mix import tissue_fractions
from scripts.physics import typical_protocols
from scripts.ranks import rank
from scripts.views import ViewGenerator, ViewRanges, generator_for
from scripts.views.draw import draw_views

__all__ = ["FeatureStep", "InvarianceReport", "SequenceViews"]

logger = logging.getLogger(__name__)

STILL = {"rotation": 0, "scale": 0, "shear": 0, "flip": 0, "elastic": 0, "gibbs_probability": 0, "cuboids": 0}


class SequenceViews:
    """The same region under fixed sequences: same geometry, each with a bias field and noise of its own.

    Args:
        sequences: names of `scripts.physics.typical_protocols`.
        patch_size: side of the regions [voxels].
        noise: largest Rician sigma, as a share of the signal's root mean square.
        bias: largest standard deviation of the log bias field.
        seed: of bias and noise.

    Raises:
        InputError: for an unknown sequence, or fewer than two.
    """

    def __init__(
        self, sequences: Sequence[str], patch_size: int, noise: float = 0.05, bias: float = 0.2, seed: int = 0
    ) -> None:
        known = typical_protocols()
        unknown = [name for name in sequences if name not in known]
        if unknown or len(sequences) < 2:
            raise InputError(f"evaluated sequences {list(sequences)}: name two or more of {', '.join(known)}")
        self.sequences = tuple(sequences)
        self.protocols = [known[name] for name in sequences]
        self.ranges = ViewRanges.of({**STILL, "noise": noise, "bias": bias})
        self.views = ViewGenerator("base", patch_size)
        self.seed = seed

    def __call__(self, maps: Tensor, step: int) -> Tensor:
        """Return (S * B, 1, P, P, P) normalised images of maps (B, C, P, P, P), row s * B + b in sequence s."""
        side = self.views.patch_size
        params = draw_views(
            tuple(protocol for protocol in self.protocols for _ in range(len(maps))),
            self.ranges,
            patch_size=side,
            region_size=side,
            generator=generator_for(self.seed, step),
        )
        image: Tensor = self.views.apply(maps, params)["image"]
        return image


class FeatureStep:
    """One iteration of the evaluator: the features of a batch of regions under all sequences.

    Args:
        views: makes the images.
        encoders: name -> encoder; each is used in evaluation mode.
        dense_levels: which of the encoder's levels are sampled as dense features.
        cells: brain cells sampled of each anatomy and level.
        images: images in one forward pass.
    """

    def __init__(
        self,
        views: SequenceViews,
        encoders: Mapping[str, nn.Module],
        dense_levels: Sequence[int] = (-1,),
        cells: int = 16,
        images: int = 4,
    ) -> None:
        self.views = views
        self.encoders = dict(encoders)
        self.dense_levels = tuple(dense_levels)
        self.cells = cells
        self.images = images

    @torch.no_grad()
    def __call__(self, engine: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``subject``, ``tissue`` and, per encoder, pooled (B, S, C) and dense features of sampled cells."""
        step = int(batch["step"][0])
        maps = batch["maps"].to(engine.state.device).float()
        images = self.views(maps, step)
        found = {"subject": list(batch["subject"]), "tissue": tissue_fractions(maps).flatten(1).cpu()}
        for name, encoder in self.encoders.items():
            encoder.to(engine.state.device).eval()
            found[name] = self._features(encoder, images, maps, step)
        return found

    def _features(self, encoder: Any, images: Tensor, maps: Tensor, step: int) -> dict[Any, Any]:
        chunks = [encoder.levels(part) for part in images.split(self.images)]
        pooled = torch.cat([levels[-1].flatten(2).mean(2) for levels in chunks])
        n_sequences, batch = len(self.views.sequences), len(maps)
        found: dict[Any, Any] = {"pooled": pooled.view(n_sequences, batch, -1).transpose(0, 1).cpu()}
        for level in self.dense_levels:
            dense = torch.cat([levels[level] for levels in chunks])
            by_anatomy = dense.view(n_sequences, batch, *dense.shape[1:]).transpose(0, 1)
            found[level] = self._sample(by_anatomy, maps, step)
        return found

    def _sample(self, dense: Tensor, maps: Tensor, step: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each anatomy: features (m, S, C) and tissue (m, 3) of up to ``cells`` cells that are mostly brain."""
        sampled = []
        for b, (features, anatomy) in enumerate(zip(dense, maps, strict=True)):
            cells, tissue = sample_cells(features, anatomy, self.cells, generator_for(step, b))
            sampled.append((cells.cpu().numpy(), tissue.cpu().numpy()))
        return sampled


class InvarianceReport:
    """Gather the features of all batches; at the end write, print and track the table of measures.

    Args:
        step: the evaluator's `FeatureStep`.
        output_dir: where ``invariance.csv`` goes.
        data: the result of `scripts.sources.pretraining_data.pretraining_data`.
        run: arguments of `MLflowRun`; None tracks nothing.
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
        worse = told_if_worse_than_untrained(table)
        if worse:
            logger.warning("%s", worse)
        if self.run is not None:
            self._track(table, path)

    def _track(self, table: pd.DataFrame, path: Path) -> None:
        run = MLflowRun(**{"tags": {}, "params": {}, **(self.run or {})})
        names = table["encoder"] + "/" + table["level"].str.replace(", ", " ") + "/" + table["metric"]
        values = {f"invariance/{name}": value for name, value in zip(names, table["value"], strict=True)}
        run.log(values, step=0)
        run.log_file(path)
        run.tag(evaluated="yes")
        run.close()
        logger.info("MLflow: run %s in %s", run.run_id, run.uri)
