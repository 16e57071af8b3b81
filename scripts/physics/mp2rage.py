"""Image of MP2RAGE in its steady state, see `scripts.physics.pulse_train`."""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.physics.arguments import TensorLike, as_tensors, flip_factors
from scripts.physics.pulse_train import decay, middle, pulse_train, relax

__all__ = ["mp2rage"]

_NULL_POWER = 1e-16
"""Added to the power of the two MP2RAGE images, so that their ratio is 0 and not 0 / 0 where both are 0."""


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

    Examples:
        The image does not know proton density, and is 0.5 where both trains give the same signal, here of tissue
        that relaxes fully between two pulses:

        >>> cycle = {"tr": 6.25, "ti1": 0.8, "ti2": 2.2, "tx": 0.0058, "te": 0.0029, "n": 160, "efficiency": 0.96}
        >>> pd, r1 = torch.tensor([70.0, 7.0, 70.0]), torch.tensor([0.95, 0.95, 1e5])
        >>> mp2rage(pd, r1, 21.0, **cycle, flip_angles=(5.0, 5.0)).mul(1000).round().int().tolist()
        [179, 179, 500]
    """
    del r2star, te, receive
    (pd, r1), (tr, ti1, ti2, tx, n, efficiency, *angles) = as_tensors(
        (pd, r1), (tr, ti1, ti2, tx, n, efficiency, *flip_angles)
    )
    half = n * tx / 2
    (sine1, versine1), (sine2, versine2) = (flip_factors(angle, transmit) for angle in angles)
    first = pulse_train(r1, tx, n, versine1, before_centre=middle(n) - 1)
    second = pulse_train(r1, tx, n, versine2, before_centre=n - middle(n))
    before = decay(r1, ti1 - half)
    between = decay(r1, ti2 - ti1 - 2 * half)
    after = decay(r1, tr - ti2 - half)

    ending = relax(second.through(relax(first.through(1 - before), between)), after)
    memory = before * first.whole * between * second.whole * after
    start1 = relax(-efficiency * ending / (1 + efficiency * memory), before)
    start2 = relax(first.through(start1), between)
    signal1 = sine1 * first.centre(start1)
    signal2 = sine2 * second.centre(start2)
    power = torch.addcmul(signal1.square() + _NULL_POWER, signal2, signal2)
    return torch.where(pd > 0, (signal1 * signal2).abs() / power, 0)
