"""Signal of MPRAGE: its steady state (see `scripts.physics.pulse_train`), and the formula that the paper prints."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.physics.arguments import TensorLike, as_tensors, flip_factors, gain
from scripts.physics.pulse_train import decay, fade, middle, pulse_train, relax
from scripts.physics.signals import NULL_ANGLE

__all__ = ["mprage", "mprage_closed_form"]


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

    Examples:
        White matter, grey matter and fluid at 3 T, in percent of white matter:

        >>> pd, r1 = torch.tensor([70.0, 80.0, 100.0]), torch.tensor([0.95, 0.62, 0.24])
        >>> times = {"tr": 2.3, "ti": 0.9, "tx": 0.006, "te": 0.003}
        >>> signal = mprage(pd, r1, 0.0, **times, flip_angle=9.0, n=160, efficiency=0.96)
        >>> (100 * signal / signal[0]).round().int().tolist()
        [100, 64, 17]
    """
    (pd, r1, r2star), (tr, ti, tx, te, flip_angle, n, efficiency) = as_tensors(
        (pd, r1, r2star), (tr, ti, tx, te, flip_angle, n, efficiency)
    )
    half = n * tx / 2
    sine, versine = flip_factors(flip_angle, transmit)
    train = pulse_train(r1, tx, n, versine, before_centre=middle(n) - 1)
    before, after = (decay(r1, ti - half), decay(r1, tr - ti - half))

    ending = relax(train.through(1 - before), after)
    inverted = -efficiency * ending / (1 + efficiency * (before * train.whole * after))
    central = train.centre(relax(inverted, before))
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

    Examples:
        A delay of many T1 after the train recovers all magnetisation, whatever the train did:

        >>> mprage_closed_form(80, 0.62, tr=2.3, td=100.0, tx=0.006, flip_angle=9.0, n=160).item()
        80.0
    """
    (pd, r1), (tr, td, tx, flip_angle, n) = as_tensors((pd, r1), (tr, td, tx, flip_angle, n))
    sine, versine = flip_factors(flip_angle, transmit)
    relaxed = torch.expm1(-tr * r1).neg()
    steady = sine * relaxed / torch.addcmul(versine + NULL_ANGLE, 1 - versine, relaxed)
    after = decay(r1, td)
    signal = relax(steady * (1 - fade(r1, tx, n, versine)), after)
    return gain(pd, receive) * signal.abs()
