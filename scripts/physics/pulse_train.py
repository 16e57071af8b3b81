"""Longitudinal magnetisation in inversion-prepared gradient-echo trains, the common ground of MPRAGE and MP2RAGE.

In units of its equilibrium it follows two affine steps: free relaxation for a time
T, m -> 1 - (1 - m) exp(-R1 T), and a train of N pulses of flip angle a spaced TX apart, m -> s + (m - s) q^N
with q = cos(a) exp(-R1 TX) and s = (1 - exp(-R1 TX)) / (1 - q). The steady state is the fixed point of the
cycle that begins with the inversion m -> -eff m.

Times are in seconds, rates in 1/s, flip angles in degrees (below 90), PD in percent units (p.u.). The maps
must not be negative; where PD is 0 the signal is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from scripts.physics.signals import NULL_ANGLE

__all__ = ["PulseTrain", "decay", "fade", "middle", "pulse_train", "relax"]

_EARLIEST_DELAY = -2.0
"""Timings that no scanner could run give negative delays; beyond this [s] they would overflow in float32."""

_LARGEST_VERSINE = 1 - 1e-6
"""1 - cos(a) taken for the power cos(a)^N at 90 degrees and more, where nothing of the start is left."""


class PulseTrain(NamedTuple):
    """A train of pulses: what it drives to, and how much of its start is left after it and at its centre.

    Examples:
        >>> train = PulseTrain(steady=torch.tensor(0.2), whole=torch.tensor(0.1), part=torch.tensor(0.5))
        >>> round(train.through(torch.tensor(1.0)).item(), 6), round(train.centre(torch.tensor(1.0)).item(), 6)
        (0.28, 0.6)
    """

    steady: Tensor
    whole: Tensor
    part: Tensor

    def through(self, start: Tensor) -> Tensor:
        """Return the magnetisation after the train."""
        return torch.lerp(self.steady, start, self.whole)

    def centre(self, start: Tensor) -> Tensor:
        """Return the magnetisation just before the pulse that fills the centre of k-space."""
        return torch.lerp(self.steady, start, self.part)


def pulse_train(r1: Tensor, tx: Tensor, n: Tensor, versine: Tensor, *, before_centre: Tensor) -> PulseTrain:
    """Return the train of ``n`` pulses whose centre comes after ``before_centre`` of them.

    Args:
        r1: longitudinal relaxation rate [1/s]; this and every other argument broadcasts with the rest.
        tx: time between two pulses [s].
        n: number of pulses.
        versine: 1 - cos(a) of the flip angle a.
        before_centre: number of pulses before the one that fills the centre of k-space.

    Examples:
        Without a flip the train is free relaxation: it drives to equilibrium and leaves exp(-R1 N TX) of the start.

        >>> train = pulse_train(*torch.tensor([0.95, 0.006, 160.0, 0.0]), before_centre=torch.tensor(0.0))
        >>> [round(value.item(), 4) for value in train]  # exp(-0.912) = 0.4017
        [1.0, 0.4017, 1.0]
    """
    relaxed = torch.expm1(-tx * r1).neg()
    steady = relaxed / torch.addcmul(versine + NULL_ANGLE, 1 - versine, relaxed)
    return PulseTrain(steady, fade(r1, tx, n, versine), fade(r1, tx, before_centre, versine))


def fade(r1: Tensor, tx: Tensor, pulses: Tensor, versine: Tensor) -> Tensor:
    """Return (cos(a) exp(-R1 TX))^pulses, in one pass over the maps; arguments as in `pulse_train`.

    Examples:
        >>> round(fade(*torch.tensor([0.0, 0.006, 2.0, 0.5])).item(), 6)  # cos(60 degrees)^2
        0.25
    """
    log_cosine = torch.log1p(-versine.clamp(max=_LARGEST_VERSINE))
    return torch.exp(torch.addcmul(pulses * log_cosine, -pulses * tx, r1))


def middle(n: Tensor) -> Tensor:
    """Return half of ``n`` pulses, rounded down.

    Examples:
        >>> middle(torch.tensor([160.0, 7.0])).tolist()
        [80.0, 3.0]
    """
    return n.div(2, rounding_mode="floor")


def relax(start: Tensor, left: Tensor) -> Tensor:
    """Return the magnetisation after a time in which ``left`` of what it lacked or exceeded is left, see `decay`.

    Examples:
        >>> relax(torch.tensor([-1.0, 1.0]), torch.tensor(0.5)).tolist()
        [0.0, 1.0]
    """
    return torch.addcmul(1 - left, start, left)


def decay(r1: Tensor, time: Tensor) -> Tensor:
    """Return exp(-``r1`` ``time``) of a delay [s]; one before -2 s, which no scanner could run, counts as -2 s.

    Examples:
        >>> round(decay(torch.tensor(2.0), torch.tensor(0.34657)).item(), 4)
        0.5
    """
    return torch.exp(-time.clamp(min=_EARLIEST_DELAY) * r1)
