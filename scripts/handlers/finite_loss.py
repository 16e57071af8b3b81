"""Trainings that stop as soon as their loss is no number any more, before a checkpoint is lost to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from scripts.errors import InputError

__all__ = ["FiniteLoss"]

_STEPS = 20  # on a GPU, between two looks, each of which waits for it


class FiniteLoss:
    """End a training whose loss or weights are NaN or infinite; the checkpoint of the last good epoch stays.

    Not Ignite's TerminateOnNan: that ends a run as if it were through, and waits for the GPU at each step.

    Args:
        checkpoint: file that the training would be continued from.
        network: that is trained.
    """

    def __init__(self, checkpoint: Path, network: nn.Module) -> None:
        self.checkpoint = checkpoint
        self.network = network
        self.worst: Tensor | None = None  # NaN or infinite from the first such loss on

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``; attach it before what saves."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._look)

    def _add(self, engine: Any) -> None:
        output = engine.state.output
        output = output[0] if isinstance(output, list) and output else output
        loss = output.get("loss") if isinstance(output, dict) else output
        if not isinstance(loss, Tensor):
            return
        loss = loss.detach().abs().max()
        self.worst = loss if self.worst is None else self.worst + loss
        if loss.device.type == "cpu" or engine.state.iteration % _STEPS == 0:
            self._check(engine, self.worst.isfinite())

    def _look(self, engine: Any) -> None:
        with torch.no_grad():
            total = sum(value.abs().max() for value in self.network.parameters() if value.numel())
        for found in (self.worst, total):
            if isinstance(found, Tensor):
                self._check(engine, found.isfinite())

    def _check(self, engine: Any, good: Tensor) -> None:
        if bool(good):
            self.worst = None
            return
        where = f"step {engine.state.iteration}, in epoch {engine.state.epoch}"
        cure = "begin anew with a smaller --learning_rate, or look at the data"
        if self.checkpoint.is_file():
            cure = f"{self.checkpoint} holds the last good epoch, from which the same command goes on; else {cure}"
        raise InputError(f"the loss or the weights are no finite numbers at {where}: {cure}")
