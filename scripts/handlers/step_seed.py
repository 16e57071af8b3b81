"""A seed of its own for each training step."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events

from scripts.ranks import rank
from scripts.views import generator_for

__all__ = ["StepSeed"]


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
