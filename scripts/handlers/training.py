"""The pieces of one training step that the configs plug into MONAI's SupervisedTrainer."""

from __future__ import annotations

import sys
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from tqdm import tqdm

from scripts.ranks import rank
from scripts.views import ViewGenerator, generator_for

__all__ = ["Attach", "GradientClipping", "PrepareViews", "ProgressBar", "StepSeed", "TrackedLoss"]


class Attach:
    """Attach a handler that other components refer to as well: a list of handlers holds no references.

    Args:
        handler: has a method ``attach(engine)``.
    """

    def __init__(self, handler: Any) -> None:
        self.handler = handler

    def attach(self, engine: Engine) -> None:
        """Attach the handler to ``engine``."""
        self.handler.attach(engine)


class PrepareViews:
    """Turn a batch of map regions into views on the device: the ``prepare_batch`` of trainer and evaluator.

    Args:
        views: generator of the views.
    """

    def __init__(self, views: ViewGenerator) -> None:
        self.views = views

    def __call__(
        self, batch: dict[str, Any], device: torch.device | str | None, non_blocking: bool = False, **_: Any
    ) -> tuple[Tensor, Tensor]:
        """Return image and target, each (V * B, 1, P, P, P), of a batch of `scripts.data.RegionDataset`."""
        maps = batch["maps"].to(device, non_blocking=non_blocking)
        views = self.views(maps, step=int(batch["step"][0]), rank=rank())
        return views["image"], views["target"]


class TrackedLoss(nn.Module):
    """A loss of several terms, as the scalar that a MONAI trainer wants; the terms stay readable.

    Args:
        loss: maps (prediction, target) to a dict of scalars with the key ``loss``.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.terms: dict[str, Tensor] = {}

    def forward(self, prediction: dict[str, Tensor], target: Tensor) -> Tensor:
        """Return the total; `terms` then holds every term of this call, detached."""
        terms: dict[str, Tensor] = self.loss(prediction, target)
        self.terms = {name: value.detach() for name, value in terms.items()}
        return terms["loss"]


class GradientClipping:
    """Clip the norm of all gradients together before the optimiser steps; works with a gradient scaler.

    Args:
        max_norm: largest norm (paper B.1: 12).
    """

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Clip after each backward pass of ``engine``."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Unscale where there is a scaler, then clip."""
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class StepSeed:
    """Seed torch before each iteration from (seed, iteration, rank), so that dropout resumes to the same bits."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Seed at the start of each iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seed for the iteration that begins."""
        torch.manual_seed(generator_for(self.seed, engine.state.iteration, rank()).initial_seed())


class ProgressBar:
    """One bar for a whole run, with the loss and the time left; starts where a resumed run continues.

    Args:
        description: what stands before the bar.
        loss: shown beside the bar where given.
    """

    def __init__(self, description: str, loss: TrackedLoss | None = None) -> None:
        self.description = description
        self.loss = loss
        self.bar: Any = None

    def attach(self, engine: Engine) -> None:
        """Show the progress of ``engine``, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.EPOCH_STARTED, self._start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
            engine.add_event_handler(Events.COMPLETED, self._close)
            engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        if self.bar is None:
            total = engine.state.max_epochs * engine.state.epoch_length
            self.bar = tqdm(
                total=total,
                initial=engine.state.iteration,
                desc=self.description,
                unit="step",
                dynamic_ncols=True,
                mininterval=0.5 if sys.stderr.isatty() else 20,
            )

    def _advance(self, _engine: Engine) -> None:
        self.bar.update()
        if self.loss is not None and self.bar.n % 5 == 0:
            self.bar.set_postfix({k: f"{float(v):.3f}" for k, v in self.loss.terms.items()}, refresh=False)

    def _close(self, _engine: Engine) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._close(engine)
        raise error
