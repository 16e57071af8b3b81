"""Protocols in which a head can be shown once its maps are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from scripts.errors import InputError
from scripts.physics.protocols import Protocol, default_protocol
from scripts.physics.sequences import DEFAULTS, OPTIONAL, find_fault
from scripts.physics.simulate import simulate

__all__ = ["RENDERED", "render", "rendered_protocol"]

RENDERED = ("mprage", "gre", "gre_mt", "fse", "flair")
"""Sequences whose images are magnitudes; MP2RAGE's is a ratio of two."""


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


def render(maps: Tensor, protocol: Protocol) -> Tensor:
    """Return the noise-free image of maps under a protocol, without bias field.

    Spin echoes decay with 0.7 R2*, as R2 is not among the maps.

    Args:
        maps: (4, I, J, K) PD [p.u.], R1 [1/s], R2* [1/s] and MTsat [p.u.], 0 outside the head.
        protocol: of any sequence.

    Returns:
        (1, I, J, K) in percent of the signal of fully relaxed fluid without decay.

    Examples:
        Fluid of T1 = 4.2 s in a PD-weighted image, 100 (1 - exp(-5 / 4.2)) exp(-0.02 * 0.7 * 2) = 67.7:

        >>> import torch
        >>> fluid = torch.tensor([100.0, 1 / 4.2, 2.0, 0.0]).view(4, 1, 1, 1)
        >>> round(render(fluid, rendered_protocol("fse", {"te": 0.02})).item(), 1)
        67.7
    """
    return simulate(maps[None], [protocol], r2_from="scaled")[0]
