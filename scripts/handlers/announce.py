"""What a run says before it begins and when it has ended."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from scripts.handlers.checkpoint import Checkpointing
from scripts.handlers.tracking import TrackTraining
from scripts.networks.downstream import TaskNetwork
from scripts.ranks import rank, world_size
from scripts.views import ViewGenerator

__all__ = ["Announce", "AnnounceTask"]

logger = logging.getLogger(__name__)


class _Announcement(ABC):
    """Tell what a run will do, and at its end where things lie and what to type next.

    Attach it last, so that its lines frame those of all other handlers.
    """

    checkpointing: Checkpointing
    tracking: TrackTraining
    network: nn.Module
    next_step: str
    began = 0.0

    def attach(self, engine: Engine) -> None:
        """Speak when ``engine`` starts and completes, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.STARTED, self._start)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    @abstractmethod
    def task(self) -> list[str]:
        """Return lines that say what is trained on what."""

    @abstractmethod
    def results(self) -> list[str]:
        """Return lines that say where results lie, other than the checkpoint."""

    def _start(self, engine: Any) -> None:
        self.began = time.monotonic()
        state = engine.state
        left = (state.max_epochs - state.epoch) * state.epoch_length
        if not left:
            logger.info(
                "This training is complete (%d epochs): nothing to do. To train on, raise --max_epochs; to start "
                "anew, type --resume false.",
                state.epoch,
            )
            return
        for line in self.task():
            logger.info("%s", line)
        parameters = list(self.network.parameters())
        logger.info(
            "%d steps to do (epochs %d to %d) on %s, %d process(es); network of %.1f M parameters, %.1f M of them "
            "trained",
            left,
            state.epoch + 1,
            state.max_epochs,
            state.device,
            world_size(),
            sum(p.numel() for p in parameters) / 1e6,
            sum(p.numel() for p in parameters if p.requires_grad) / 1e6,
        )

    def _finish(self, engine: Any) -> None:
        run = self.tracking.run
        lines = [
            f"Finished epoch {engine.state.epoch} after {_clock(time.monotonic() - self.began)}.",
            *self.results(),
            f"  checkpoint {self.checkpointing.path}",
        ]
        if run is not None:
            lines.append(f"  MLflow     run {run.run_id} in {run.uri}")
        logger.info("\n".join([*lines, self.next_step]))


class Announce(_Announcement):
    """Tell what a pretraining run will do, and where its results lie.

    Args:
        checkpointing: where the weights go.
        data: the result of `scripts.sources.pretraining_data.pretraining_data`.
        views: the views.
        network: the network.
        output_dir: where pictures and tables go.
        tracking: the MLflow run.
    """

    next_step = (
        "Next, measure its invariance: the same command with evaluate.json, "
        "--config_file \"['.../train.json', '.../evaluate.json']\""
    )

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

    def task(self) -> list[str]:
        """Return the mode, the size of a step and the sequences."""
        views = self.views
        sequences = "mprage" if views.mode == "base" else ", ".join(sorted(views.prior))
        return [
            f"Pretraining {views.mode}: {views.n_views} views of each of {self.checkpointing.settings['batch_size']} "
            f"anatomies a step, {self.checkpointing.settings['patch_size']}^3 voxels, sequences {sequences}"
        ]

    def results(self) -> list[str]:
        """Return where weights and pictures lie."""
        parts = ", ".join(f"{name}.*" for name, _ in self.network.named_children())
        return [
            f"  weights    {self.checkpointing.model_path} ({parts})",
            f"  pictures   {self.output_dir}/views_epoch*.png",
        ]


class AnnounceTask(_Announcement):
    """Tell what a downstream training will do, and where its results lie.

    Args:
        task: what is trained, in words.
        checkpointing: where the weights go.
        data: the result of `scripts.sources.downstream_data.downstream_data`.
        task_network: the network and where its encoder came from.
        tracking: the MLflow run.
    """

    next_step = (
        "Next, evaluate it on the test subjects: the same command and options with evaluate.json, "
        "--config_file \"['.../train.json', '.../evaluate.json']\"; or apply it to your images: inference.json"
    )

    def __init__(
        self,
        task: str,
        checkpointing: Checkpointing,
        data: Mapping[str, Any],
        task_network: TaskNetwork,
        tracking: TrackTraining,
    ) -> None:
        self.what = task
        self.checkpointing = checkpointing
        self.data = data
        self.task_network = task_network
        self.network = task_network.network
        self.tracking = tracking

    def task(self) -> list[str]:
        """Return the task, its subjects, and where the encoder comes from."""
        settings, made = self.checkpointing.settings, self.task_network
        how = ", trained later" if made.staged else ", frozen" if made.frozen else ", trained along"
        state = how if made.encoder_sha else ""
        lines = [
            f"Training {self.what} on {settings['modality']}: {settings['batch_size']} patches of "
            f"{settings['patch_size']}^3 voxels a step, from {self.data['subjects']}",
            f"Encoder: {made.source}{state}",
        ]
        return [*lines, f"Decoder: {made.decoder}"] if made.decoder else lines

    def results(self) -> list[str]:
        """Return where the weights lie and how good they were."""
        state = self.checkpointing.evaluator.state
        which = "the last ones: no validation took place"
        if state.best_metric_epoch > 0:
            which = f"best validation {state.key_metric_name} {state.best_metric:.4f}, epoch {state.best_metric_epoch}"
        return [f"  weights    {self.checkpointing.model_path} ({which})"]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
