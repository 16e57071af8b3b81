"""What a run says before it begins and when it has ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from scripts.views import ViewGenerator
from scripts.workflow.checkpoint import Checkpointing
from scripts.workflow.ranks import rank, world_size
from scripts.workflow.tracking import TrackTraining

__all__ = ["Announce"]

logger = logging.getLogger(__name__)


class Announce:
    """Tell what a pretraining run will do, and at its end where things lie and what to type next.

    Attach it last, so that its lines frame those of all other handlers.

    Args:
        checkpointing: where the weights go.
        data: the result of `scripts.workflow.pretraining_data.pretraining_data`.
        views: the views.
        network: the network.
        output_dir: where pictures and tables go.
        tracking: the MLflow run.
    """

    def __init__(
        self,
        checkpointing: Checkpointing,
        data: Mapping[str, Any],
        views: ViewGenerator,
        network: nn.Module,
        output_dir: str | Path,
        tracking: TrackTraining,
    ) -> None:
        self.checkpointing = checkpointing
        self.data = data
        self.views = views
        self.network = network
        self.output_dir = Path(output_dir)
        self.tracking = tracking
        self.began = 0.0

    def attach(self, engine: Engine) -> None:
        """Speak when ``engine`` starts and completes, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Any) -> None:
        self.began = time.monotonic()
        state, views = engine.state, self.views
        left = (state.max_epochs - state.epoch) * state.epoch_length
        if not left:
            logger.info(
                "This training is complete (%d epochs): nothing to do. To train on, raise --max_epochs; to start "
                "anew, type --resume false.",
                state.epoch,
            )
            return
        parameters = sum(p.numel() for p in self.network.parameters()) / 1e6
        sequences = "mprage" if views.mode == "base" else ", ".join(sorted(views.prior))
        logger.info(
            "Pretraining %s: %d views of each of %d anatomies a step, %d^3 voxels, sequences %s",
            views.mode,
            views.n_views,
            self.checkpointing.settings["batch_size"],
            views.patch_size,
            sequences,
        )
        logger.info(
            "%d steps to do (epochs %d to %d) on %s, %d process(es); network of %.1f M parameters",
            left,
            state.epoch + 1,
            state.max_epochs,
            state.device,
            world_size(),
            parameters,
        )

    def _finish(self, engine: Any) -> None:
        run = self.tracking.run
        lines = [
            f"Finished epoch {engine.state.epoch} after {_clock(time.monotonic() - self.began)}.",
            f"  weights    {self.checkpointing.model_path} (encoder.*, projector.*, reconstructor.*)",
            f"  checkpoint {self.checkpointing.path}",
            f"  pictures   {self.output_dir}/views_epoch*.png",
        ]
        if run is not None:
            lines.append(f"  MLflow     run {run.run_id} in {run.uri}")
        lines.append(
            "Next, measure its invariance: the same command with evaluate.json, "
            "--config_file \"['.../train.json', '.../evaluate.json']\""
        )
        logger.info("\n".join(lines))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
