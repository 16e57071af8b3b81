"""The sequences the project simulates: their parameters, typical values, and what a scanner cannot run.

Seconds and degrees throughout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

__all__ = ["DEFAULTS", "OPTIONAL", "SEQUENCES", "describe", "find_fault"]

SEQUENCES = ("fse", "gre", "gre_mt", "flair", "mprage", "mp2rage")
"""Fast spin echo; spoiled gradient echo without and with an MT pulse; FLAIR; MPRAGE; MP2RAGE."""

DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "fse": {"tr": 5.0, "te": 0.1},
    "gre": {"tr": 0.025, "te": 0.005, "flip_angle": 20.0},
    "gre_mt": {"tr": 0.025, "te": 0.005, "flip_angle": 6.0},
    "flair": {"tr": 9.0, "te": 0.1, "ti": 2.5},
    "mprage": {
        "tr": 2.3,
        "te": 0.003,
        "ti": 0.9,
        "tx": 0.006,
        "flip_angle": 9.0,
        "n": 160,
        "efficiency": 0.96,
        "closed_form": 0,
    },
    "mp2rage": {
        "tr": 6.25,
        "te": 0.0029,
        "ti1": 0.8,
        "ti2": 2.2,
        "tx": 0.0058,
        "flip_angle1": 4.0,
        "flip_angle2": 5.0,
        "n": 160,
        "efficiency": 0.96,
    },
}
"""Typical values of every parameter of every sequence, in the order in which they are drawn.

`closed_form` chooses between the steady-state MPRAGE (0) and the formula that the paper prints (1).
"""

OPTIONAL = frozenset({"closed_form"})
"""Parameters that a protocol may leave out."""

_LABELS = {
    "fse": "FSE",
    "gre": "GRE",
    "gre_mt": "GRE with MT",
    "flair": "FLAIR",
    "mprage": "MPRAGE",
    "mp2rage": "MP2RAGE",
}

_CSF_R1 = 0.23
"""R1 of cerebrospinal fluid [1/s]."""

_CSF_RESIDUE = 0.1
"""How much of its equilibrium magnetisation CSF may show in a FLAIR image that deserves the name."""


def describe(sequence: str, parameters: Mapping[str, float]) -> str:
    """Return a short title such as "MPRAGE TR 2300 TE 3.0 TI 900 ms FA 9 deg".

    Examples:
        >>> describe("mprage", DEFAULTS["mprage"])
        'MPRAGE TR 2300 TE 3.0 TI 900 ms FA 9 deg'
    """
    words = [_LABELS[sequence]]
    for label, names in (("TR", ("tr",)), ("TE", ("te",)), ("TI", ("ti", "ti1", "ti2"))):
        times = [1000 * parameters[name] for name in names if name in parameters]
        if times:
            words += [label, "/".join(f"{time:.1f}" if time < 10 else f"{time:.0f}" for time in times)]
    words.append("ms")
    angles = [parameters[name] for name in ("flip_angle", "flip_angle1", "flip_angle2") if name in parameters]
    if angles:
        words += ["FA", "/".join(f"{angle:.2g}" for angle in angles), "deg"]
    if parameters.get("closed_form"):
        words.append("closed form")
    return " ".join(words)


def find_fault(sequence: str, parameters: Mapping[str, float]) -> str | None:
    """Return why no scanner could run the protocol, or None if one could.

    TE is shorter than TR and, in a train, than the spacing of its pulses; delays are not negative; flip
    angles lie between 0 and 90 degrees; FLAIR has a TR of more than 4 s and an inversion time near the null
    of CSF.

    Examples:
        >>> find_fault("flair", {"tr": 9.0, "te": 0.1, "ti": 2.5}) is None
        True
        >>> find_fault("flair", {"tr": 9.0, "te": 0.1, "ti": 0.5})
        'TI is far from the null of CSF'
    """
    return next(_faults(sequence, parameters), None)


def _faults(sequence: str, parameters: Mapping[str, float]) -> Iterator[str]:
    p = parameters
    if not 0 < p["te"] < p["tr"]:
        yield "TE does not lie between 0 and TR"
    if any(not 0 < value <= 90 for name, value in p.items() if name.startswith("flip_angle")):
        yield "a flip angle does not lie between 0 and 90 degrees"
    if not 0 < p.get("efficiency", 1) <= 1:
        yield "the inversion efficiency does not lie between 0 and 1"
    if sequence == "flair":
        yield from _flair_faults(p)
    if sequence in ("mprage", "mp2rage"):
        yield from _train_faults(p)


def _flair_faults(p: Mapping[str, float]) -> Iterator[str]:
    if p["tr"] <= 4:
        yield "FLAIR needs a TR of more than 4 s"
    if not 0 < p["ti"] + p["te"] < p["tr"]:
        yield "TI and TE do not fit in TR"
    if abs(1 - 2 * math.exp(-_CSF_R1 * p["ti"]) + math.exp(-_CSF_R1 * p["tr"])) > _CSF_RESIDUE:
        yield "TI is far from the null of CSF"


def _train_faults(p: Mapping[str, float]) -> Iterator[str]:
    half = p["n"] * p["tx"] / 2
    centres = [p[name] for name in ("ti", "ti1", "ti2") if name in p]
    if p["n"] < 2 or p["n"] != round(p["n"]):
        yield "the number of pulses is not a whole number of at least 2"
    if p["te"] >= p["tx"]:
        yield "TE does not fit between two pulses of the train"
    if centres[0] < half:
        yield "the train begins before the inversion"
    if centres[-1] - centres[0] < half * 2 * (len(centres) - 1):
        yield "the second train begins before the first ends"
    if p["tr"] - centres[-1] < half:
        yield "the train ends after TR"
