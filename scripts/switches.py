"""Words that users type for settings that are on, off or not given.

``python -m monai.bundle run ... --resume false`` hands over the word ``false``, which Python takes for true.
"""

from __future__ import annotations

from typing import Any

from scripts.errors import InputError

__all__ = ["is_given", "is_on"]

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def is_on(value: Any, name: str) -> bool:
    """Return whether a setting is switched on.

    Args:
        value: a bool, 0 or 1, or a word: true, false, yes, no, on, off.
        name: of the setting, for the error.

    Raises:
        InputError: for anything else.
    """
    found = _WORDS.get(str(value).lower())
    if found is None:
        raise InputError(f"{name}={value!r} is neither true nor false: type --{name} true or --{name} false")
    return found


def is_given(value: Any) -> bool:
    """Return False for None and for the words ``none`` and ``null``."""
    return value is not None and str(value).lower() not in ("none", "null")
