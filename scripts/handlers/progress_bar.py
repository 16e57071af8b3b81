"""How far a run is, for the terminal."""

from __future__ import annotations

import sys
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from scripts.losses.tracked import TrackedLoss
from scripts.ranks import rank

__all__ = ["ProgressBar"]


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
