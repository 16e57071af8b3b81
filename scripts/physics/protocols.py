"""Acquisition protocols: recorded, replayed, typical, and drawn from a prior."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from scripts.errors import InputError
from scripts.physics.distributions import draw_value, find_mistake
from scripts.physics.priors import PRESETS, preset_prior
from scripts.physics.sequences import DEFAULTS, OPTIONAL, SEQUENCES, describe, find_fault

__all__ = [
    "PRESETS",
    "SEQUENCES",
    "Protocol",
    "default_protocol",
    "draw_protocol",
    "load_prior",
    "typical_protocols",
]

_ATTEMPTS = 1000
"""Draws before a prior that asks for feasible timings is given up as holding none."""

Prior = dict[str, Any]


@dataclass(frozen=True)
class Protocol:
    """A sequence and the value of each of its parameters: enough to simulate the same image again.

    Args:
        sequence: one of `SEQUENCES`.
        parameters: seconds, degrees and counts by the names in `scripts.physics.sequences.DEFAULTS`; all but
            `closed_form` must be there.

    Raises:
        InputError: if the sequence is unknown or a parameter is missing, unknown or not a finite number.

    Examples:
        >>> print(Protocol("fse", {"tr": 5.0, "te": 0.1}))
        FSE TR 5000 TE 100 ms
    """

    sequence: str
    parameters: Mapping[str, float]

    def __post_init__(self) -> None:
        _check_sequence(self.sequence)
        names = DEFAULTS[self.sequence]
        _check_parameters(self.sequence, self.parameters)
        missing = [name for name in names if name not in self.parameters and name not in OPTIONAL]
        if missing:
            raise InputError(f"protocol {self.sequence}: missing {', '.join(missing)}; give every parameter a number")
        values = {name: float(self.parameters.get(name, default)) for name, default in names.items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            raise InputError(f"protocol {self.sequence}: {bad[0]} is {values[bad[0]]}; give a finite number")
        object.__setattr__(self, "parameters", values)

    def __str__(self) -> str:
        return describe(self.sequence, self.parameters)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON from which `from_dict` makes an equal protocol."""
        return {"sequence": self.sequence, "parameters": dict(self.parameters)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Protocol:
        """Return the protocol that `to_dict` recorded.

        Raises:
            InputError: if ``record`` is not one.
        """
        if set(record) != {"sequence", "parameters"}:
            raise InputError(f"protocol record: has keys {sorted(record)}; it needs 'sequence' and 'parameters'")
        return cls(record["sequence"], record["parameters"])


def default_protocol(sequence: str, **changes: float) -> Protocol:
    """Return the typical clinical protocol of ``sequence``, with ``changes`` to its parameters.

    Raises:
        InputError: if the sequence or a parameter is unknown.

    Examples:
        >>> print(default_protocol("mprage", ti=1.1))
        MPRAGE TR 2300 TE 3.0 TI 1100 ms FA 9 deg
    """
    _check_sequence(sequence)
    return Protocol(sequence, {**DEFAULTS[sequence], **changes})


def typical_protocols() -> dict[str, Protocol]:
    """Return one protocol for each weighting a radiologist would name, by that name, e.g. for figures.

    Examples:
        >>> list(typical_protocols())
        ['MPRAGE', 'T1w GRE', 'PDw FSE', 'T2w FSE', 'FLAIR', 'MTw GRE', 'MP2RAGE']
    """
    return {
        "MPRAGE": default_protocol("mprage"),
        "T1w GRE": default_protocol("gre"),
        "PDw FSE": default_protocol("fse", te=0.02),
        "T2w FSE": default_protocol("fse"),
        "FLAIR": default_protocol("flair"),
        "MTw GRE": default_protocol("gre_mt"),
        "MP2RAGE": default_protocol("mp2rage"),
    }


def load_prior(preset: str | Mapping[str, Any]) -> Prior:
    """Return a complete, checked prior over protocols, as plain JSON by sequence.

    A prior gives every parameter of a sequence a number or a distribution (see `distributions.FORMS`), as in
    {"mprage": {"tr": {"normal": [2.3, 0.23]}, "n": 160}}; parameters left out take their typical value. A
    list of such mappings holds alternatives, drawn equally often. "feasible": true draws again until a
    scanner could run the timings.

    Args:
        preset: the name of one of `PRESETS`, or a prior. A prior that holds "preset" starts from that one and
            changes the parameters it names; there, null drops a sequence and "sequences" keeps only those
            listed.

    Raises:
        InputError: if a preset, sequence, parameter or distribution does not exist, or nothing is left.

    Examples:
        The paper's Table 5, and its MPRAGE alone with a fixed inversion time:

        >>> list(load_prior("paper")), load_prior("paper")["fse"]["te"]
        (['fse', 'gre_mt', 'flair', 'mprage'], {'loguniform': [0.001, 3.0]})
        >>> load_prior({"preset": "paper", "sequences": ["mprage"], "mprage": {"ti": 0.9}})["mprage"]["ti"]
        0.9
    """
    changes = {"preset": preset} if isinstance(preset, str) else dict(preset)
    base = changes.pop("preset", None)
    if base is not None and base not in PRESETS:
        raise InputError(f"prior: unknown preset {base!r}; there are {', '.join(PRESETS)}")
    prior = preset_prior(base) if base else {}
    kept = changes.pop("sequences", None)
    for sequence, change in changes.items():
        _check_sequence(sequence)
        prior[sequence] = _changed(sequence, prior.get(sequence, {}), change)
    if kept is not None:
        prior = _restricted(prior, kept)
    complete = {s: _completed(s, prior[s]) for s in SEQUENCES if prior.get(s) is not None}
    if not complete:
        raise InputError("prior: no sequence is left to draw; name at least one")
    return complete


def draw_protocol(prior: Mapping[str, Any], sequence: str, generator: torch.Generator) -> Protocol:
    """Return a protocol of ``sequence`` drawn from ``prior``.

    Negative draws are reflected, efficiencies also at 1; the number of pulses is rounded, to at least 2.

    Args:
        prior: as `load_prior` returns it.
        sequence: one of its sequences.
        generator: where the randomness comes from.

    Raises:
        InputError: if the prior does not hold the sequence, or asks for feasible timings and yields none.

    Examples:
        >>> protocol = draw_protocol(load_prior("physical"), "mprage", torch.Generator().manual_seed(0))
        >>> 1.7 <= protocol.parameters["tr"] <= 2.7, protocol.parameters["n"] % 1
        (True, 0.0)
    """
    if sequence not in prior:
        raise InputError(f"prior: does not hold the sequence {sequence!r}; it holds {', '.join(prior)}")
    entry = prior[sequence]
    fault = None
    for _ in range(_ATTEMPTS):
        alternative = entry if isinstance(entry, Mapping) else entry[_choose(len(entry), generator)]
        parameters = _draw_parameters(alternative, sequence, generator)
        fault = find_fault(sequence, parameters) if alternative.get("feasible") else None
        if fault is None:
            return Protocol(sequence, parameters)
    raise InputError(f"prior: {sequence} yields no timing that a scanner could run ({fault}); widen its ranges")


def _draw_parameters(alternative: Mapping[str, Any], sequence: str, generator: torch.Generator) -> dict[str, float]:
    drawn: dict[str, float] = {}
    for name in DEFAULTS[sequence]:
        value = abs(draw_value(alternative[name], generator, drawn))
        if name == "efficiency":
            value = 1 - abs(1 - value % 2)
        elif name == "n":
            value = max(2, round(value))
        drawn[name] = value
    return drawn


def _choose(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator, device=generator.device))


def _changed(sequence: str, entry: Any, change: Any) -> Any:
    """Return ``entry`` with the parameters in ``change`` replaced; a list or None replaces all."""
    if not isinstance(change, Mapping):
        return change
    if isinstance(entry, list):
        return [_changed(sequence, alternative, change) for alternative in entry]
    return {**(entry or {}), **change}


def _restricted(prior: Prior, kept: Any) -> Prior:
    for sequence in kept:
        _check_sequence(sequence)
        if prior.get(sequence) is None:
            raise InputError(f"prior: sequences names {sequence!r}, which the prior does not hold; add or drop it")
    return {sequence: prior[sequence] for sequence in kept}


def _completed(sequence: str, entry: Any) -> Any:
    if isinstance(entry, list | tuple) and entry:
        return [_completed(sequence, alternative) for alternative in entry]
    if not isinstance(entry, Mapping):
        raise InputError(f"prior: {sequence} is {entry!r}; give a mapping of parameters, or a list of them")
    _check_parameters(sequence, entry, extra=("feasible",))
    if not isinstance(entry.get("feasible", False), bool):
        raise InputError(f"prior: {sequence}.feasible is {entry['feasible']!r}; give true or false")
    complete = {"feasible": entry.get("feasible", False), **DEFAULTS[sequence], **entry}
    names = tuple(DEFAULTS[sequence])
    for index, name in enumerate(names):
        mistake = find_mistake(complete[name], names[:index])
        if mistake:
            raise InputError(f"prior: {sequence}.{name}: {mistake}")
    return complete


def _check_sequence(sequence: str) -> None:
    if sequence not in SEQUENCES:
        raise InputError(f"unknown sequence {sequence!r}; there are {', '.join(SEQUENCES)}")


def _check_parameters(sequence: str, given: Mapping[str, Any], extra: tuple[str, ...] = ()) -> None:
    names = (*DEFAULTS[sequence], *extra)
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(f"{sequence}: unknown parameter {unknown[0]!r}; there are {', '.join(names)}")
