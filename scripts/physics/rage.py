"""Signals of inversion-prepared gradient-echo trains: MPRAGE and MP2RAGE.

Longitudinal magnetisation, in units of its equilibrium, follows two affine steps: free relaxation for a time
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

from scripts.physics.arguments import TensorLike, as_tensors, flip_factors, gain
from scripts.physics.signals import NULL_ANGLE

__all__ = ["mp2rage", "mprage", "mprage_closed_form"]

_EARLIEST_DELAY = -2.0
"""Timings that no scanner could run give negative delays; beyond this [s] they would overflow in float32."""

_LARGEST_VERSINE = 1 - 1e-6
"""1 - cos(a) taken for the power cos(a)^N at 90 degrees and more, where nothing of the start is left."""

_NULL_POWER = 1e-16
"""Added to the power of the two MP2RAGE images, so that their ratio is 0 and not 0 / 0 where both are 0."""


def mprage(
    pd: TensorLike,
    r1: TensorLike,
    r2star: TensorLike,
    *,
    tr: TensorLike,
    ti: TensorLike,
    tx: TensorLike,
    te: TensorLike,
    flip_angle: TensorLike,
    n: TensorLike,
    efficiency: TensorLike,
    receive: TensorLike | None = None,
    transmit: TensorLike | None = None,
) -> Tensor:
    """Return the steady-state MPRAGE signal at the central pulse of the train.

    S = B1 PD sin(a) |s + (m - s) q^(N // 2 - 1)| exp(-R2* TE), where m = 1 - (1 + eff M) exp(-R1 TP) is the
    magnetisation before the train and M the steady state before inversion:
    M = {[(1 - EP) q^N + s (1 - q^N)] ED + 1 - ED} / (1 + eff cos(a)^N exp(-R1 TR)), EP = exp(-R1 TP),
    ED = exp(-R1 TD), TP = TI - N TX / 2, TD = TR - TI - N TX / 2, a = ``transmit`` * ``flip_angle``.

    Args:
        pd: proton density [p.u.]; this and every other argument broadcasts with the rest.
        r1: longitudinal relaxation rate [1/s].
        r2star: effective transverse relaxation rate [1/s].
        tr: time between two inversions [s].
        ti: time from the inversion to the centre of the train [s]; to be had, it exceeds N TX / 2.
        tx: time between two pulses of the train [s].
        te: echo time [s].
        flip_angle: nominal flip angle [degrees].
        n: number of pulses in the train, a whole number of at least 2.
        efficiency: efficiency of the inversion, 0 (none) to 1 (perfect).
        receive: receive field B1, a gain; None is 1.
        transmit: transmit field, scales the flip angle; None is 1.

    Returns:
        The signal in the unit of ``pd``, of the shape that all arguments broadcast to.

    References:
        Marques et al. 2010, doi:10.1016/j.neuroimage.2009.10.002, with the second train left out.
    """
    (pd, r1, r2star), (tr, ti, tx, te, flip_angle, n, efficiency) = as_tensors(
        (pd, r1, r2star), (tr, ti, tx, te, flip_angle, n, efficiency)
    )
    half = n * tx / 2
    sine, versine = flip_factors(flip_angle, transmit)
    train = _train(r1, tx, n, versine, pulses=_middle(n) - 1)
    before, after = (_decay(r1, _delay(ti - half)), _decay(r1, _delay(tr - ti - half)))

    ending = _relax(train.through(1 - before), after)
    inverted = -efficiency * ending / (1 + efficiency * (before * train.whole * after))
    central = train.centre(_relax(inverted, before))
    return gain(pd, receive, sine) * central.abs() * torch.exp(-te * r2star)


def mprage_closed_form(
    pd: TensorLike,
    r1: TensorLike,
    *,
    tr: TensorLike,
    td: TensorLike,
    tx: TensorLike,
    flip_angle: TensorLike,
    n: TensorLike,
    receive: TensorLike | None = None,
    transmit: TensorLike | None = None,
) -> Tensor:
    """Return MPRAGE by the closed form that the paper prints; it knows no inversion and no echo time.

    S = B1 PD |sin(a) (1 - E) / (1 - cos(a) E) [1 - (cos(a) exp(-R1 TX))^N] exp(-R1 TD) + 1 - exp(-R1 TD)|,
    where E = exp(-R1 TR) and a = ``transmit`` * ``flip_angle``. Use `mprage` for the contrast of a scanner.

    Args:
        pd: proton density [p.u.]; this and every other argument broadcasts with the rest.
        r1: longitudinal relaxation rate [1/s].
        tr: repetition time [s].
        td: delay after the train [s].
        tx: time between two pulses of the train [s].
        flip_angle: nominal flip angle [degrees].
        n: number of pulses in the train.
        receive: receive field B1, a gain; None is 1.
        transmit: transmit field, scales the flip angle; None is 1.

    Returns:
        The signal in the unit of ``pd``, of the shape that all arguments broadcast to.

    References:
        Table 4 of the paper that the README cites, as printed.
    """
    (pd, r1), (tr, td, tx, flip_angle, n) = as_tensors((pd, r1), (tr, td, tx, flip_angle, n))
    sine, versine = flip_factors(flip_angle, transmit)
    relaxed = torch.expm1(-tr * r1).neg()
    steady = sine * relaxed / torch.addcmul(versine + NULL_ANGLE, 1 - versine, relaxed)
    after = _decay(r1, _delay(td))
    signal = _relax(steady * (1 - _fade(r1, tx, n, versine)), after)
    return gain(pd, receive) * signal.abs()


def mp2rage(
    pd: TensorLike,
    r1: TensorLike,
    r2star: TensorLike,
    *,
    tr: TensorLike,
    ti1: TensorLike,
    ti2: TensorLike,
    tx: TensorLike,
    te: TensorLike,
    flip_angles: tuple[TensorLike, TensorLike],
    n: TensorLike,
    efficiency: TensorLike,
    receive: TensorLike | None = None,
    transmit: TensorLike | None = None,
) -> Tensor:
    """Return the uniform MP2RAGE image S1 S2 / (S1^2 + S2^2) of the magnitudes of both trains, 0 to 0.5.

    S1 and S2 are the signals in a cycle of inversion, TP = TI1 - N TX / 2, first train, TW = TI2 - TI1 - N
    TX, second train, TD = TR - TI2 - N TX / 2 (see `mprage` for the symbols); as in the reference, S1 comes
    after N // 2 - 1 pulses of its train and S2 before the last N // 2 of its own. Proton density, transverse
    decay and the receive field are in both and cancel; where PD is 0 the image is 0.

    Args:
        pd: proton density [p.u.]; this and every other argument broadcasts with the rest.
        r1: longitudinal relaxation rate [1/s].
        r2star: effective transverse relaxation rate [1/s]; cancels.
        tr: time between two inversions [s].
        ti1: time from the inversion to the centre of the first train [s].
        ti2: time from the inversion to the centre of the second train [s].
        tx: time between two pulses of a train [s].
        te: echo time [s]; cancels.
        flip_angles: nominal flip angles of the first and the second train [degrees].
        n: number of pulses in each train, a whole number of at least 2.
        efficiency: efficiency of the inversion, 0 (none) to 1 (perfect).
        receive: receive field; cancels.
        transmit: transmit field, scales the flip angles; None is 1.

    Returns:
        The unitless image, of the shape that all arguments but the three that cancel broadcast to.

    References:
        Marques et al. 2010, doi:10.1016/j.neuroimage.2009.10.002.
    """
    del r2star, te, receive
    (pd, r1), (tr, ti1, ti2, tx, n, efficiency, *angles) = as_tensors(
        (pd, r1), (tr, ti1, ti2, tx, n, efficiency, *flip_angles)
    )
    half = n * tx / 2
    (sine1, versine1), (sine2, versine2) = (flip_factors(angle, transmit) for angle in angles)
    first = _train(r1, tx, n, versine1, pulses=_middle(n) - 1)
    second = _train(r1, tx, n, versine2, pulses=n - _middle(n))
    before = _decay(r1, _delay(ti1 - half))
    between = _decay(r1, _delay(ti2 - ti1 - 2 * half))
    after = _decay(r1, _delay(tr - ti2 - half))

    ending = _relax(second.through(_relax(first.through(1 - before), between)), after)
    memory = before * first.whole * between * second.whole * after
    start1 = _relax(-efficiency * ending / (1 + efficiency * memory), before)
    start2 = _relax(first.through(start1), between)
    signal1 = sine1 * first.centre(start1)
    signal2 = sine2 * second.centre(start2)
    power = torch.addcmul(signal1.square() + _NULL_POWER, signal2, signal2)
    return torch.where(pd > 0, (signal1 * signal2).abs() / power, 0)


class _Train(NamedTuple):
    """A train of pulses: what it drives to, and how much of its start is left after it and at its centre."""

    steady: Tensor
    whole: Tensor
    part: Tensor

    def through(self, start: Tensor) -> Tensor:
        """Magnetisation after the train."""
        return torch.lerp(self.steady, start, self.whole)

    def centre(self, start: Tensor) -> Tensor:
        """Magnetisation just before the pulse that fills the centre of k-space."""
        return torch.lerp(self.steady, start, self.part)


def _train(r1: Tensor, tx: Tensor, n: Tensor, versine: Tensor, *, pulses: Tensor) -> _Train:
    """Return the train of ``n`` pulses whose centre comes after ``pulses`` of them."""
    relaxed = torch.expm1(-tx * r1).neg()
    steady = relaxed / torch.addcmul(versine + NULL_ANGLE, 1 - versine, relaxed)
    return _Train(steady, _fade(r1, tx, n, versine), _fade(r1, tx, pulses, versine))


def _fade(r1: Tensor, tx: Tensor, pulses: Tensor, versine: Tensor) -> Tensor:
    """(cos(a) exp(-R1 TX))^pulses, in one pass over the maps."""
    log_cosine = torch.log1p(-versine.clamp(max=_LARGEST_VERSINE))
    return torch.exp(torch.addcmul(pulses * log_cosine, -pulses * tx, r1))


def _middle(n: Tensor) -> Tensor:
    return n.div(2, rounding_mode="floor")


def _relax(start: Tensor, decay: Tensor) -> Tensor:
    return torch.addcmul(1 - decay, start, decay)


def _decay(r1: Tensor, time: Tensor) -> Tensor:
    return torch.exp(-time * r1)


def _delay(time: Tensor) -> Tensor:
    return time.clamp(min=_EARLIEST_DELAY)
