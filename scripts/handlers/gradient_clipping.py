"""Clipping of gradients in MONAI's trainers."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import nn

__all__ = ["GradientClipping"]


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
