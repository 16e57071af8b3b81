"""Units of quantitative maps: which one a map looks like, and the one place where maps are converted.

Inside the project PD and MTsat are in percent units [p.u.] (PD of CSF = 100), R1, R2* and R2 in 1/s. Files
often hold something else, and their sidecars cannot be trusted. The median over the brain tells the units
apart; whether a map is a rate or a time is told by its order of tissues: R1, R2* and R2 fall where PD rises,
T1, T2* and T2 rise with it. A map that looks foreign is an error that names the setting to type; nothing is
converted unless that setting asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scripts.errors import InputError

__all__ = [
    "LABELS",
    "LIMITS",
    "NAMES",
    "PD_WHITE_MATTER",
    "UNITS",
    "check_settings",
    "convert",
    "guess_units",
    "white_matter_median",
]

LABELS = {"pd": "PD", "r1": "R1", "r2star": "R2*", "mtsat": "MTsat", "r2": "R2"}

NAMES = {
    "pd": "Proton density in per cent of that of cerebrospinal fluid",
    "r1": "Longitudinal relaxation rate",
    "r2star": "Effective transverse relaxation rate",
    "r2": "Transverse relaxation rate",
    "mtsat": "Magnetisation transfer saturation",
}
"""What each map shows, as sidecars describe it."""

UNITS: dict[str, tuple[str, ...]] = {
    "pd": ("p.u.", "fraction", "a.u."),
    "mtsat": ("p.u.", "fraction"),
    **dict.fromkeys(("r1", "r2star", "r2"), ("1/s", "1/ms", "1e-3/s", "s", "ms")),
}
"""What can be typed for each map, the project's own unit first; "s" and "ms" mean a map of T1, T2* or T2."""

LIMITS = {"pd": 150.0, "r1": 5.0, "r2star": 300.0, "mtsat": 5.0, "r2": 100.0}
"""Largest value of a map in project units; a fit that goes beyond has failed. Negative values become 0.

PD: CSF is 100, the rest is noise; R1: T1 of 200 ms, below that of fat at 1.5 T; R2*: T2* of 3.3 ms, beyond
iron-rich nuclei at 7 T; MTsat: the limit of the hMRI toolbox; R2: T2 of 10 ms.
"""

PD_WHITE_MATTER = 69.0
"""PD of white matter [p.u.] to which maps in arbitrary units are scaled (Tofts 2003, as the hMRI toolbox)."""

# Brain medians in project units: 3 T gives PD 77, R1 0.75, R2* 19, MTsat 1.1, R2 14; the ranges leave room
# for 0.5 to 9.4 T, for atrophy and for large lesions.
_PLAUSIBLE = {"pd": (40, 130), "r1": (0.25, 4), "r2star": (4, 100), "mtsat": (0.2, 4), "r2": (3, 60)}
_RISES_WITH = {"r1": {"pd": -1, "mtsat": 1}, "r2star": {"pd": -1, "r1": 1}, "r2": {"pd": -1, "r1": 1}}
_FACTORS = {
    "p.u.": 1.0,
    "fraction": 100.0,
    "1/s": 1.0,
    "1/ms": 1000.0,
    "1e-3/s": 0.001,
    "s": 1.0,
    "ms": 1000.0,
}
_TIMES = ("s", "ms")
_CLEAR = 0.3  # rank correlation from which the order of tissues counts as told


def check_settings(units: Mapping[str, str] | str) -> dict[str, str]:
    """Return ``units`` as a mapping from map name to unit, "auto" where nothing is set.

    Raises:
        InputError: if a map or a unit is unknown.
    """
    if isinstance(units, str):
        if units != "auto":
            raise InputError(f'units={units!r}: give "auto" or a mapping such as {{"r1": "1/ms"}}')
        units = {}
    for name, unit in units.items():
        if name not in UNITS:
            raise InputError(f"units names an unknown map {name!r}: the maps are {', '.join(UNITS)}")
        if unit not in ("auto", *UNITS[name]):
            raise InputError(f"units gives {name} in {unit!r}: choose from auto, {', '.join(UNITS[name])}")
    return {name: units.get(name, "auto") for name in UNITS}


def guess_units(name: str, values: np.ndarray, others: Mapping[str, np.ndarray]) -> list[str]:
    """Return the units that a map may be in, by the likeliest first; empty if it looks like none.

    Args:
        name: ``pd``, ``r1``, ``r2star``, ``mtsat`` or ``r2``.
        values: brain voxels (n,) of the map, in the unit to be guessed.
        others: the same brain voxels (n,) of further maps; PD and MTsat in any unit, R1 as a rate.
    """
    median = float(np.median(values))
    low, high = _PLAUSIBLE[name]
    if not median > 0:
        return []
    fits = [unit for unit in UNITS[name] if unit != "a.u." and low <= _scaled(median, unit) <= high]
    signs = _RISES_WITH.get(name, {})
    votes = [sign * _rank_correlation(values, others[key]) for key, sign in signs.items() if key in others]
    if votes and np.mean(votes) > _CLEAR:
        fits = [unit for unit in fits if unit not in _TIMES]
    elif votes and np.mean(votes) < -_CLEAR:
        fits = [unit for unit in fits if unit in _TIMES]
    return fits or (["a.u."] if name == "pd" else [])


def convert(name: str, values: np.ndarray, unit: str, *, white_matter: float | None = None) -> np.ndarray:
    """Return a map in project units, float32, any shape; voxels that are 0 stay 0.

    Args:
        name: the map.
        values: the map as stored.
        unit: one of ``UNITS[name]``.
        white_matter: median of PD in white matter as stored; needed for PD in ``"a.u."`` alone.

    Raises:
        InputError: if PD in arbitrary units has no white matter to be scaled by.
    """
    if unit == "a.u.":
        if white_matter is None or not white_matter > 0:
            raise InputError(f"{LABELS[name]} in a.u. is 0 in white matter: check the map")
        return (values * np.float32(PD_WHITE_MATTER / white_matter)).astype(np.float32)
    factor = np.float32(_FACTORS[unit])
    if unit in _TIMES:
        positive = values > 0
        rate = np.zeros(values.shape, dtype=np.float32)
        with np.errstate(over="ignore"):
            np.divide(factor, values, out=rate, where=positive)
        return rate
    if factor == 1:
        return values.astype(np.float32, copy=False)
    return (values * factor).astype(np.float32)


def white_matter_median(pd: np.ndarray, r1: np.ndarray) -> float:
    """Return the median of PD (n,), any unit, where R1 (n,) lies between its 75th and 95th percentile.

    That is white matter: above are noise and what the fit missed.
    """
    low, high = np.percentile(r1, (75, 95))
    return float(np.median(pd[(r1 >= low) & (r1 <= high)]))


def _scaled(median: float, unit: str) -> float:
    return _FACTORS[unit] / median if unit in _TIMES else _FACTORS[unit] * median


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two samples (n,), without scipy's import time; ties in order found."""
    ranks: Sequence[np.ndarray] = [np.argsort(np.argsort(sample, kind="stable")) for sample in (first, second)]
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
