"""The scanners of the embedded IXI cohort: what the three sites measure with."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.cohort.scanner import Sequence3D

__all__ = ["SCANNERS", "Scanner"]


@dataclass(frozen=True)
class Scanner:
    """A site: field strength [T], protocols, coil and noise as in `acquire`, slices of its T2, PD and FLAIR."""

    field_strength: float
    t1: Sequence3D
    t2: Sequence3D
    pd: Sequence3D
    flair: Sequence3D
    bias: float
    noise: float
    slices: int


def _mprage(**protocol: float) -> Sequence3D:
    return Sequence3D("mprage", {"n": 150, "efficiency": 0.96, **protocol})


def _fse(te: float, tr: float) -> Sequence3D:
    return Sequence3D("fse", {"te": te, "tr": tr})


def _flair(te: float, tr: float, ti: float) -> Sequence3D:
    return Sequence3D("flair", {"te": te, "tr": tr, "ti": ti})


SCANNERS = {
    "Guys": Scanner(
        1.5,
        _mprage(tr=2.3, ti=0.95, tx=9.813e-3, te=4.603e-3, flip_angle=8.0),
        _fse(0.1, 8.17834),
        _fse(0.008, 8.17834),
        _flair(0.12, 9.0, 2.48),
        bias=0.08,
        noise=0.035,
        slices=130,
    ),
    "HH": Scanner(
        3.0,
        _mprage(tr=2.5, ti=1.05, tx=9.6e-3, te=4.603e-3, flip_angle=8.0),
        _fse(0.1, 5.72579),
        _fse(0.008, 5.72579),
        _flair(0.11, 8.0, 2.36),
        bias=0.20,
        noise=0.03,
        slices=120,
    ),
    "IOP": Scanner(
        1.5,
        _mprage(tr=1.9, ti=0.75, tx=8.0e-3, te=3.4e-3, flip_angle=12.0),
        _fse(0.09, 6.2),
        _fse(0.012, 6.2),
        _flair(0.1, 8.5, 2.42),
        bias=0.12,
        noise=0.045,
        slices=124,
    ),
}
"""Site -> scanner. TE, flip angle and pulse spacing of T1, TR and TE of T2 and PD of Guys and HH are as published
on IXI's pages; inversion and repetition of the T1 were not, nor anything of IOP: those are plausible ones. IXI has no
FLAIR: these null fluid."""
