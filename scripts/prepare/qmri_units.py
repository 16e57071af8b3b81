"""In which unit each map of a scan is, as its values, its name and its sidecar tell, and its conversion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.data.layout import read_sidecar
from scripts.data.units import LABELS, LIMITS, PD_WHITE_MATTER, UNITS, convert, guess_units, white_matter_median
from scripts.errors import InputError
from scripts.prepare.qmri_sources import MapSource

__all__ = ["Reading", "apply_reading", "infer_units", "read_hint"]

_SAMPLE = 20_000
_TIMES = ("s", "ms")
_UNCALIBRATED = ("M0map", "A")
_WHITE_MATTER = (60.0, 80.0)  # PD [p.u.] that is not worth a note

# How sidecars spell units, without blanks, carets and case.
_SPELLINGS = {
    **dict.fromkeys(("p.u.", "pu", "%", "percent", "percentunits"), "p.u."),
    **dict.fromkeys(("fraction", "1", "ratio", "dimensionless", "unitless"), "fraction"),
    **dict.fromkeys(("a.u.", "au", "arbitrary", "arbitraryunits"), "a.u."),
    **dict.fromkeys(("1/s", "s-1", "s^-1", "hz", "/s"), "1/s"),
    **dict.fromkeys(("1/ms", "ms-1", "ms^-1", "khz"), "1/ms"),
    **dict.fromkeys(("mhz", "1e-3/s", "10-3s-1"), "1e-3/s"),
    **dict.fromkeys(("s", "sec", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
}


@dataclass(frozen=True)
class Reading:
    """How a map's values are read.

    Attributes:
        unit: of the file, one of ``scripts.data.units.UNITS``.
        text: what was taken and why, such as ``R1 from T1 in ms``.
        notes: doubts, each a sentence.
        white_matter: median of PD in white matter as stored, for ``a.u.``.
    """

    unit: str
    text: str
    notes: tuple[str, ...] = ()
    white_matter: float | None = None


def infer_units(
    sources: Mapping[str, MapSource],
    volumes: Mapping[str, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    settings: Mapping[str, str],
) -> dict[str, Reading]:
    """Return how each map is to be read, R1 first, because the other maps are judged by it.

    A unit that is set counts. Otherwise the values decide (`scripts.data.units.guess_units`); where they leave a
    choice, the sidecar's ``Units`` and then the map's name (T1map: a time) do. M0 and hMRI's A are in arbitrary
    units whatever their values are.

    Args:
        sources: map -> its file.
        volumes: map -> (I, J, K) as stored; NaN where there is no value.
        brain: (I, J, K), where the maps are judged.
        settings: map -> unit or "auto", see `scripts.data.units.check_settings`.

    Raises:
        InputError: if a map looks like no known unit, or the unit that is set cannot be true.
    """
    samples = _sample(volumes, brain)
    readings: dict[str, Reading] = {}
    for name in ("r1", *(name for name in volumes if name != "r1")):
        source, values = sources[name], samples[name]
        others = {key: sample for key, sample in samples.items() if key != name}
        unit = settings[name]
        notes: list[str] = []
        if unit == "auto":
            unit, notes = _guess(name, source, values, others)
        white_matter = white_matter_median(samples["pd"], samples["r1"]) if unit == "a.u." else None
        samples[name] = convert(name, values, unit, white_matter=white_matter)
        _check_median(name, source.path, unit, samples[name])
        if name == "pd" and unit != "a.u.":
            notes += _doubt_calibration(samples)
        text = _describe(name, unit, white_matter) + (" as set" if settings[name] != "auto" else "")
        readings[name] = Reading(unit, text, tuple(notes), white_matter)
    return readings


def apply_reading(name: str, volume: NDArray[np.float32], reading: Reading) -> NDArray[np.float32]:
    """Return a map (I, J, K) in project units; NaN where it has no value, as a T1 of 0 or less."""
    if reading.unit in _TIMES:
        volume = np.where(volume > 0, volume, np.float32(np.nan))
    with np.errstate(over="ignore", invalid="ignore"):
        done = convert(name, volume, reading.unit, white_matter=reading.white_matter)
    done[np.isnan(volume)] = np.nan  # a time without a value becomes the rate 0
    return done


def read_hint(path: Path) -> str | None:
    """Return the unit that a map's sidecar names, as `scripts.data.units.UNITS` spells it; None if it names none.

    BIDS tells it as ``Units``, the hMRI toolbox as ``history.output.units``.
    """
    sidecar = read_sidecar(path)
    history = sidecar.get("history")
    texts = [sidecar.get("Units"), *(_outputs(history) if history is not None else ())]
    for text in texts:
        if isinstance(text, str):
            spelling = re.sub(r"[\s^{}()]", "", text).lower()
            if "khz" not in spelling and text.strip() == "mHz":
                return "1e-3/s"
            if spelling in _SPELLINGS:
                return _SPELLINGS[spelling]
    return None


def _outputs(history: Any) -> Iterator[Any]:
    """Yield the units in an hMRI history, one entry or a list of them."""
    for entry in history if isinstance(history, list) else [history]:
        output = entry.get("output") if isinstance(entry, dict) else None
        if isinstance(output, dict):
            yield output.get("units")


def _sample(volumes: Mapping[str, NDArray[np.float32]], brain: NDArray[np.bool_]) -> dict[str, NDArray[np.float32]]:
    """Return some voxels (n,) of each map in which all have a value, PD and R1 a positive one."""
    usable = brain.copy()
    for name, volume in volumes.items():
        usable &= (volume > 0) if name in ("pd", "r1") else np.isfinite(volume)
    voxels = np.flatnonzero(usable)
    if not len(voxels):
        raise InputError("no voxel of the brain has a value in every map: check the brain mask and the maps")
    voxels = voxels[:: max(1, len(voxels) // _SAMPLE)]
    return {name: volume.reshape(-1)[voxels] for name, volume in volumes.items()}


def _guess(
    name: str, source: MapSource, values: NDArray[np.float32], others: Mapping[str, NDArray[np.float32]]
) -> tuple[str, list[str]]:
    hint = read_hint(source.path)
    if source.kind in _UNCALIBRATED:
        return "a.u.", []
    guesses = guess_units(name, values, others)
    if not guesses:
        raise InputError(
            f"{source.path} looks like no known unit of {LABELS[name]} (brain median {float(np.median(values)):.4g}): "
            f'check the map, or say what it is with --units \'{{"{name}": "{UNITS[name][0]}"}}\''
        )
    if hint in guesses:
        return str(hint), []
    notes = []
    by_name = [unit for unit in guesses if (unit in _TIMES) == source.kind.startswith("T")]
    unit = (by_name or guesses)[0]
    if hint is not None:
        notes.append(f"{LABELS[name]} is in {hint} by its sidecar, but its values are those of {unit}: taken as {unit}")
    if not by_name:
        notes.append(f"{source.kind} holds values of {unit}: taken as such")
    return unit, notes


def _check_median(name: str, path: Path, unit: str, sample: NDArray[np.float32]) -> None:
    median = float(np.median(sample))
    if not 0 < median <= LIMITS[name]:
        raise InputError(
            f"{path} has a brain median of {median:.4g} {UNITS[name][0]} when read as {unit}, outside 0 to "
            f"{LIMITS[name]:g}: correct --units for {name}"
        )


def _doubt_calibration(samples: Mapping[str, NDArray[np.float32]]) -> list[str]:
    white = white_matter_median(samples["pd"], samples["r1"])
    if _WHITE_MATTER[0] <= white <= _WHITE_MATTER[1]:
        return []
    return [f"PD of white matter is {white:.3g} p.u., not {PD_WHITE_MATTER:g}: if it is uncalibrated, set it to a.u."]


def _describe(name: str, unit: str, white_matter: float | None) -> str:
    label, own = LABELS[name], UNITS[name][0]
    if white_matter is not None:
        return f"{label} a.u. -> {own} (white matter {white_matter:.4g} = {PD_WHITE_MATTER:g})"
    if unit in _TIMES:
        return f"{label} from {label.replace('R', 'T', 1)} in {unit}"
    return f"{label} {own}" if unit == own else f"{label} {unit} -> {own}"
