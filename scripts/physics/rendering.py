"""Protocols in which a head can be shown once its maps are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from scripts.errors import InputError
from scripts.physics.protocols import Protocol, default_protocol
from scripts.physics.sequences import DEFAULTS, OPTIONAL, find_fault
from scripts.physics.simulate import simulate

__all__ = ["RENDERED", "render", "rendered_protocol", "typical_r2"]

RENDERED = ("mprage", "gre", "gre_mt", "fse", "flair")
"""Sequences whose images are magnitudes; MP2RAGE's is a ratio of two."""

_SHARE, _MOST = 0.8, 14.0


def rendered_protocol(sequence: str, parameters: Mapping[str, float | None] | None = None) -> Protocol:
    """Return a protocol that a scanner could run.

    Args:
        sequence: one of `RENDERED`.
        parameters: seconds, degrees and counts by the names in `scripts.physics.sequences.DEFAULTS`; those that are
            left out, or None, take the typical value that stands there.

    Raises:
        InputError: an unknown sequence or parameter, a value that is no number, or timings that no scanner could run.

    Examples:
        >>> print(rendered_protocol("flair", {"te": 0.12, "ti": None}))
        FLAIR TR 9000 TE 120 TI 2500 ms
    """
    if sequence not in RENDERED:
        raise InputError(f"render {sequence}: no such sequence, choose {', '.join(RENDERED)}")
    given = {name: value for name, value in (parameters or {}).items() if value is not None}
    known = [name for name in DEFAULTS[sequence] if name not in OPTIONAL]
    for name, value in given.items():
        if name not in known:
            raise InputError(f"render {sequence}: it has no {name}, leave that out; it has {', '.join(known)}")
        if type(value) not in (int, float) or not math.isfinite(value):
            raise InputError(f"render {sequence}: {name} is {value!r}: give a number, in seconds or degrees")
    protocol = default_protocol(sequence, **given)
    fault = find_fault(sequence, protocol.parameters)
    if fault is not None:
        values = ", ".join(f"{name} {protocol.parameters[name]:g}" for name in known)
        raise InputError(f"render {sequence}: {fault} ({values}; s and degrees): change these")
    return protocol


def typical_r2(r2star: Tensor) -> Tensor:
    """Return R2 [1/s] as it goes with R2* [1/s] in a head at 3 T, of any shape: 0.8 R2*, at most 14.

    Grey and white matter have nearly one T2, of 71 to 76 ms, where R2* rises with iron and myelin.

    References:
        Cox and Gowland 2010, doi:10.1002/mrm.22563 (T2 of grey and white matter at 3 T).

    Examples:
        Fluid, cortex, white matter and pallidum:

        >>> import torch
        >>> typical_r2(torch.tensor([1.0, 17.0, 21.0, 33.0]))
        tensor([ 0.8000, 13.6000, 14.0000, 14.0000])
    """
    return (_SHARE * r2star).clamp(max=_MOST)


def render(maps: Tensor, protocol: Protocol) -> Tensor:
    """Return the noise-free image of maps under a protocol, without bias field.

    Spin echoes decay with `typical_r2`, as R2 is not among the maps.

    Args:
        maps: (4, I, J, K) PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.], 0 outside the head.
        protocol: of any sequence.

    Returns:
        (1, I, J, K) in percent of the signal of fully relaxed fluid without decay.

    Examples:
        Fluid of T1 = 4.2 s in a PD-weighted image, 100 (1 - exp(-5 / 4.2)) exp(-0.02 * 0.8 * 2) = 67.4:

        >>> import torch
        >>> fluid = torch.tensor([100.0, 1 / 4.2, 2.0, 0.0]).view(4, 1, 1, 1)
        >>> round(render(fluid, rendered_protocol("fse", {"te": 0.02})).item(), 1)
        67.4
    """
    return simulate(maps[None], [protocol], r2=typical_r2(maps[None, 2:3]), r2_from="r2")[0]
