"""Values that users, files and servers choose, handed to MONAI's configs as they are: none is read as code."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from scripts.errors import InputError

__all__ = ["command_word", "literal", "literals"]

# $ begins an expression, @ a reference, % a macro, and # stands for the separator of ids in any text
_MARKS = re.compile(r"^\$|[@%#]")
_PLAIN_KEY = re.compile("(?!_)[^$@%#:]*")


def literal(value: Any) -> Any:
    r"""Return what a config has to say so that its parser takes ``value`` for itself.

    MONAI's parser runs text that begins with ``$``, replaces ``@id`` and ``%id``, turns ``#`` into ``::``, and calls
    what a dict names as ``_target_``. What holds none of this is returned as it is; other text, and the lists and
    dicts that hold it, become an expression of Python that says nothing but the value.

    Args:
        value: text, a path, a number, a bool or None, lists and dicts of them; other objects, which no parser reads,
            are returned as they are.

    >>> literal("head.nii.gz"), literal("$print(1).nii"), literal("sub#1")
    ('head.nii.gz', "$'$print(1).nii'", "$'sub\\x231'")
    """
    plain = _plain(value)
    return plain if _is_harmless(plain) else "$" + _expression(plain)


def literals(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with each value as a `literal`; their names, which are ids of a config, stay."""
    return {name: literal(value) for name, value in settings.items()}


def command_word(value: Any, name: str = "the value") -> str:
    """Return the word that ``python -m monai.bundle`` reads as ``value``: text stays bare where it can.

    Raises:
        InputError: for a value that no word stands for, such as an object or an infinite number.
    """
    from fire.parser import DefaultParseValue

    plain = _plain(value)
    for word in (plain, repr(plain)):
        if isinstance(word, str):
            read = DefaultParseValue(word)
            if read == plain and repr(read) == repr(plain):  # 1, 1.0 and True are not the same setting
                return word
    raise InputError(f"{name}={value!r} cannot be given on a command line: use text, numbers, lists and dicts of them")


def _plain(value: Any) -> Any:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_harmless(value: Any) -> bool:
    if isinstance(value, str):
        return _MARKS.search(value) is None
    if isinstance(value, dict):
        return all(_PLAIN_KEY.fullmatch(str(key)) and _is_harmless(inner) for key, inner in value.items())
    return all(map(_is_harmless, value)) if isinstance(value, list) else True


def _expression(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_expression(key)}: {_expression(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_expression, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"{value!r} stands beside text that a config would read, and has no literal")
    # the parser replaces these in expressions, too, also within quotes
    return re.sub("[@%#]", lambda mark: f"\\x{ord(mark[0]):02x}", ascii(value))
