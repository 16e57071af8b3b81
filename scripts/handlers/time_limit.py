"""Trainings that end after a given time."""

from __future__ import annotations

import logging
import time
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["TimeLimit"]

logger = logging.getLogger(__name__)


class TimeLimit:
    """End a training at the first end of an epoch after some minutes, and let its learning rate fall until then.

    Args:
        minutes: time for the training of this process; None sets no limit.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.minutes = minutes
        self.began: float | None = None

    def attach(self, engine: Engine) -> None:
        """Watch ``engine``."""
        if self.minutes is not None:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def share(self) -> float:
        """Return the share of the time that has gone by since the training began, 0 without a limit."""
        if self.minutes is None or self.began is None:
            return 0.0
        return min((time.monotonic() - self.began) / (60 * self.minutes), 1.0)

    def _begin(self, _engine: Engine) -> None:
        self.began = time.monotonic()

    def __call__(self, engine: Any) -> None:
        """End the training if its time is over."""
        if self.share() >= 1:
            logger.info("%g minutes are over after epoch %d: ending here", self.minutes, engine.state.epoch)
            engine.terminate()
