"""Signals of spin echoes, inversion recovery and the spoiled gradient echo.

Times are in seconds, rates in 1/s, flip angles in degrees, PD and MTsat in percent units (p.u.). The maps
must not be negative; where PD is 0 the signal is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from scripts.physics.arguments import TensorLike, as_tensors, flip_factors, gain

__all__ = ["NULL_ANGLE", "flair", "fse", "gre"]

NULL_ANGLE = 1e-12
"""Added to 1 - cos(a), so that no relaxation (R1 = 0) without a flip (a = 0) gives 0 and not 0 / 0."""


def fse(
    pd: TensorLike,
    r1: TensorLike,
    r2: TensorLike,
    *,
    te: TensorLike,
    tr: TensorLike,
    receive: TensorLike | None = None,
) -> Tensor:
    """Return the fast spin echo, S = B1 PD (1 - exp(-R1 TR)) exp(-R2 TE).

    Args:
        pd: proton density [p.u.]; this and every other argument broadcasts with the rest.
        r1: longitudinal relaxation rate [1/s].
        r2: transverse relaxation rate [1/s].
        te: effective echo time [s].
        tr: repetition time [s].
        receive: receive field B1, a gain; None is 1.

    Returns:
        The signal in the unit of ``pd``, of the shape that all arguments broadcast to.

    References:
        Table 4 of the paper that the README cites.

    Examples:
        T2-weighted, with T2 of 70 ms and T1 of 1.05 s in white matter and of 2 s and 4.2 s in fluid:

        >>> pd, r1, r2 = torch.tensor([70.0, 100.0]), torch.tensor([0.95, 0.24]), torch.tensor([14.3, 0.5])
        >>> fse(pd, r1, r2, te=0.1, tr=5.0).round().int().tolist()
        [17, 66]
    """
    (pd, r1, r2), (te, tr) = as_tensors((pd, r1, r2), (te, tr))
    return gain(pd, receive) * torch.expm1(-tr * r1).neg() * torch.exp(-te * r2)


def flair(
    pd: TensorLike,
    r1: TensorLike,
    r2: TensorLike,
    *,
    te: TensorLike,
    tr: TensorLike,
    ti: TensorLike,
    receive: TensorLike | None = None,
) -> Tensor:
    """Return the magnitude of inversion recovery, S = B1 PD |1 - 2 exp(-R1 TI) + exp(-R1 TR)| exp(-R2 TE).

    The inversion is perfect and the echo train much shorter than TR.

    Args:
        pd: proton density [p.u.]; this and every other argument broadcasts with the rest.
        r1: longitudinal relaxation rate [1/s].
        r2: transverse relaxation rate [1/s].
        te: effective echo time [s].
        tr: repetition time [s].
        ti: inversion time [s].
        receive: receive field B1, a gain; None is 1.

    Returns:
        The signal in the unit of ``pd``, of the shape that all arguments broadcast to.

    References:
        Table 4 of the paper that the README cites, with the magnitude that a scanner reconstructs.

    Examples:
        A long TR nulls a tissue at TI = ln(2) T1, and without inversion (TI = 0) leaves a saturation recovery:

        >>> flair(100, 0.25, 0.0, te=0.1, tr=1e6, ti=4 * 0.693147).item() < 1e-4
        True
        >>> round(flair(100, 0.25, 0.0, te=0.1, tr=4.0, ti=0.0).item(), 2)  # 100 |exp(-1) - 1|
        63.21
    """
    (pd, r1, r2), (te, tr, ti) = as_tensors((pd, r1, r2), (te, tr, ti))
    recovered = torch.expm1(-tr * r1) - 2 * torch.expm1(-ti * r1)
    return gain(pd, receive) * recovered.abs() * torch.exp(-te * r2)


def gre(
    pd: TensorLike,
    r1: TensorLike,
    r2star: TensorLike,
    mtsat: TensorLike | None,
    *,
    te: TensorLike,
    tr: TensorLike,
    flip_angle: TensorLike,
    receive: TensorLike | None = None,
    transmit: TensorLike | None = None,
) -> Tensor:
    """Return the spoiled gradient echo, with a magnetisation-transfer pulse where ``mtsat`` is given.

    S = B1 PD sin(a) (1 - d) (1 - E) / (1 - cos(a) (1 - d) E) exp(-R2* TE), where E = exp(-R1 TR),
    d = MTsat / 100 and a = ``transmit`` * ``flip_angle``. Spoiling is perfect and the steady state reached.

    Args:
        pd: proton density [p.u.]; this and every other argument broadcasts with the rest.
        r1: longitudinal relaxation rate [1/s].
        r2star: effective transverse relaxation rate [1/s].
        mtsat: magnetisation-transfer saturation [p.u.]; None is a sequence without the pulse, d = 0.
        te: echo time [s].
        tr: repetition time [s].
        flip_angle: nominal flip angle [degrees].
        receive: receive field B1, a gain; None is 1.
        transmit: transmit field, scales the flip angle; None is 1.

    Returns:
        The signal in the unit of ``pd``, of the shape that all arguments broadcast to.

    References:
        Table 4 of the paper that the README cites. Helms et al. 2008, doi:10.1002/mrm.21732 (MTsat).

    Examples:
        The signal is largest at Ernst's angle, arccos(exp(-TR / T1)) = 12.4 degrees here:

        >>> angles = torch.linspace(1, 90, 891)
        >>> round(angles[gre(70, 0.95, 21.0, None, te=0.005, tr=0.025, flip_angle=angles).argmax()].item(), 1)
        12.4
    """
    maps = (pd, r1, r2star) if mtsat is None else (pd, r1, r2star, mtsat)
    (pd, r1, r2star, *saturation), (te, tr, flip_angle) = as_tensors(maps, (te, tr, flip_angle))
    sine, versine = flip_factors(flip_angle, transmit)
    relaxed = torch.expm1(-tr * r1).neg()
    lost = relaxed
    if saturation:
        delta = saturation[0] / 100
        relaxed = (1 - delta) * relaxed
        lost = relaxed + delta
    steady = relaxed / torch.addcmul(versine + NULL_ANGLE, 1 - versine, lost)
    return gain(pd, receive, sine) * steady * torch.exp(-te * r2star)
