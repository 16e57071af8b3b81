"""Trainings that end once validation has not improved for a while."""

from __future__ import annotations

import logging
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["Patience"]

logger = logging.getLogger(__name__)


class Patience:
    """End a training after some epochs without a better key metric, not before a floor.

    Ignite's `EarlyStopping` counts in memory; this reads the epoch of the best metric, which checkpoints hold, so that
    a run that goes on ends where an uninterrupted one does, and one that has ended stays so.

    Args:
        evaluator: MONAI evaluator that is run during the training, before this.
        epochs: without a better metric after which it ends; None never does.
        floor: first epoch at whose end it may.

    Examples:
        >>> from types import SimpleNamespace
        >>> evaluator = SimpleNamespace(state=SimpleNamespace(best_metric_epoch=4))
        >>> patience = Patience(evaluator, epochs=5, floor=8)
        >>> [patience.is_over(epoch) for epoch in (7, 8, 9, 10)]
        [False, False, True, True]
    """

    def __init__(self, evaluator: Any, epochs: int | None = None, floor: int = 1) -> None:
        self.evaluator, self.epochs, self.floor = evaluator, epochs, floor

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``, once it has gone on from a checkpoint and after it has validated."""
        if self.epochs is not None:
            engine.add_event_handler(Events.STARTED, self)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def is_over(self, epoch: int) -> bool:
        """Return whether the training ends after an epoch."""
        best = int(self.evaluator.state.best_metric_epoch)
        return self.epochs is not None and epoch >= self.floor and 0 < best <= epoch - self.epochs

    def __call__(self, engine: Any) -> None:
        """End the training if patience is over."""
        state = engine.state
        if state.epoch < state.max_epochs and self.is_over(state.epoch):
            best = self.evaluator.state.best_metric_epoch
            logger.info("No better since epoch %d: ending after epoch %d of %d", best, state.epoch, state.max_epochs)
            state.max_epochs = state.epoch
