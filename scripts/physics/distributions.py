"""Numbers and distributions as they stand in a prior, e.g. {"uniform": [0.6, 0.9]}."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["FORMS", "draw_value", "find_mistake"]

FORMS = {
    "uniform": "[low, high]",
    "loguniform": "[low, high], both positive",
    "normal": "[mean, standard deviation]",
    "log10normal": "[median, decades], the standard deviation of log10",
    "choice": "[value, ...], equally likely",
    "times": '["parameter", factor], a multiple of a parameter drawn before',
}
"""The distributions and what each takes; a plain number is itself."""


def find_mistake(value: Any, earlier: tuple[str, ...] = ()) -> str | None:
    """Return what is wrong with ``value`` as a number or distribution, or None.

    Args:
        value: what stands in the prior.
        earlier: the parameters that are drawn before this one, to which "times" may refer.

    Examples:
        >>> find_mistake({"uniform": [0.6, 0.9]}) is None
        True
        >>> find_mistake({"loguniform": [0, 1]})
        'loguniform takes [low, high], both positive, not [0, 1]'
    """
    if _is_number(value):
        return None
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in FORMS:
        return f"{value!r} is neither a number nor one of {', '.join(FORMS)}"
    ((form, numbers),) = value.items()
    if not isinstance(numbers, list | tuple) or not _fits(form, list(numbers), earlier):
        return f"{form} takes {FORMS[form]}, not {numbers!r}"
    return None


def draw_value(value: Any, generator: torch.Generator, drawn: Mapping[str, float]) -> float:
    """Return a draw from ``value``, a number or distribution without `find_mistake`.

    Args:
        value: what stands in the prior.
        generator: where the randomness comes from.
        drawn: the parameters drawn before, for "times".

    Examples:
        >>> draw_value({"times": ["te", 2]}, torch.Generator(), {"te": 0.003})
        0.006
        >>> 0.6 <= draw_value({"uniform": [0.6, 0.9]}, torch.Generator(), {}) <= 0.9
        True
    """
    if _is_number(value):
        return float(value)
    ((form, (first, *rest)),) = value.items()
    if form == "times":
        return drawn[first] * rest[0]
    if form == "choice":
        return float([first, *rest][int(_uniform(generator) * (1 + len(rest)))])
    if form == "uniform":
        return first + (rest[0] - first) * _uniform(generator)
    if form == "loguniform":
        return math.exp(math.log(first) + math.log(rest[0] / first) * _uniform(generator))
    if form == "normal":
        return first + rest[0] * _normal(generator)
    return first * 10 ** (rest[0] * _normal(generator))


def _fits(form: str, numbers: list[Any], earlier: tuple[str, ...]) -> bool:
    if form == "choice":
        return bool(numbers) and all(_is_number(number) for number in numbers)
    if len(numbers) != 2 or not _is_number(numbers[1]):
        return False
    first, second = numbers
    if form == "times":
        return first in earlier
    if not _is_number(first):
        return False
    if form in ("loguniform", "log10normal") and first <= 0:
        return False
    return second >= first if form in ("uniform", "loguniform") else second >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator, dtype=torch.float64, device=generator.device).item()


def _normal(generator: torch.Generator) -> float:
    return torch.randn((), generator=generator, dtype=torch.float64, device=generator.device).item()
