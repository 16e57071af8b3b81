"""What a request may say: each value is of a known kind, or refused with one line that names it and the cure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import torch

from scripts.errors import InputError

__all__ = [
    "Check",
    "as_device",
    "as_number",
    "check_device",
    "check_flag",
    "check_ignored",
    "check_metadata",
    "check_name",
    "check_tag",
    "in_json",
    "number",
    "one_of",
    "or_nothing",
    "read_object",
    "shown",
    "text_like",
]

Check = Callable[[str, Any], None]
"""Takes the name of a field and its value, and raises `InputError` if that cannot be used."""

_LONGEST_NAME = 200  # bytes; with its ending it has to be the name of a file
_DEEPEST = 16
_OWN = ("id", "path", "name", "ts", "strategy", "weight")  # what the server itself tells clients of an image


def shown(value: Any) -> str:
    """Return a value as an error quotes it: one short line."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_name(field: str, value: Any) -> None:
    """Refuse what is not the plain name of something that lies directly in a folder, however it is encoded."""
    text = value
    for _ in range(4):
        if not isinstance(text, str) or not _is_plain(text):
            raise InputError(f"{field} {shown(value)} is no name: give that of an image, without folders or ending")
        text = unquote(text)


def _is_plain(text: str) -> bool:
    return (
        text.isprintable()
        and 0 < len(text.encode("utf-8", "replace")) <= _LONGEST_NAME
        and not text.startswith((".", " "))
        and not text.endswith(" ")
        and not any(mark in text for mark in "/\\")
    )


def text_like(pattern: str, meant: str) -> Check:
    """Return the check that a text is wholly of a pattern.

    Args:
        pattern: regular expression.
        meant: what it stands for, as an error says it.
    """

    def check(field: str, value: Any) -> None:
        if not isinstance(value, str) or re.fullmatch(pattern, value, re.ASCII) is None:
            raise InputError(f"{field} {shown(value)} is unknown: give {meant}")

    return check


def one_of(*words: str) -> Check:
    """Return the check that a text is one of some words."""
    return text_like("|".join(map(re.escape, words)), ", ".join(words))


check_tag: Check = text_like(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", "letters, digits, _ . and -, as in final")


def or_nothing(check: Check) -> Check:
    """Return a check that also takes an empty text, which says as much as no value."""

    def or_empty(field: str, value: Any) -> None:
        if value not in ("", None):
            check(field, value)

    return or_empty


def check_flag(field: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool) and str(value).lower() not in ("true", "false"):
        raise InputError(f"{field} {shown(value)} is unknown: give true or false")


def as_number(field: str, value: Any, low: float, high: float) -> Any:
    """Return a number within bounds.

    Args:
        field: what it is called.
        value: as it came.
        low: least that is taken; whole numbers are wanted where this is one.
        high: largest.

    Raises:
        InputError: another value.
    """
    kinds = (int,) if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "whole number" if isinstance(low, int) else "number"
        raise InputError(f"{field} {shown(value)} cannot be used: give a {kind} from {low} to {high}")
    return value


def number(low: float, high: float) -> Check:
    """Return the check of `as_number`."""

    def check(field: str, value: Any) -> None:
        as_number(field, value, low, high)

    return check


def as_device(value: Any) -> torch.device | None:
    """Return the device that a client names, None where it leaves that to the bundle.

    ``cuda`` on a machine without GPU is its CPU: clients send it without asking.

    Args:
        value: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: another word, or a device that is not there.
    """
    if value is None or value == "":
        return None
    word = value[0] if isinstance(value, list) and len(value) == 1 else value
    found = re.fullmatch(r"(cpu|cuda)(?::([0-9]{1,3}))?", word) if isinstance(word, str) else None
    if found is None or (found[1] == "cpu" and found[2]):
        raise InputError(f"device {shown(value)} is unknown: choose cpu, cuda or cuda:N")
    if found[2] and int(found[2]) >= torch.cuda.device_count():
        raise InputError(f"device {word} is not here ({torch.cuda.device_count()} GPUs): choose cpu, or another")
    return torch.device("cpu" if word == "cuda" and not torch.cuda.is_available() else word)


def check_device(_: str, value: Any) -> None:
    """Refuse what `as_device` refuses."""
    as_device(value)


def check_ignored(field: str, value: Any) -> None:
    """Take what clients send and nothing here reads, unless it is nested without end."""

    def check(inner: Any, left: int) -> None:
        if not left:
            raise InputError(f"{field} is nested more than {_DEEPEST} deep: send plain values")
        if isinstance(inner, dict | list):
            for one in inner.values() if isinstance(inner, dict) else inner:
                check(one, left - 1)

    check(value, _DEEPEST)


def check_metadata(field: str, value: Any) -> None:
    """Refuse JSON of what is known of an image or a label if it says what the server itself tells of it."""
    content = read_object(field, value)
    check_ignored(field, content)
    for key in content:
        if key in _OWN:
            raise InputError(f"{field} says {shown(key)}, which the server says itself: leave it out")


def read_object(field: str, text: str | bytes) -> dict[str, Any]:
    """Return the content of JSON; of nothing, nothing.

    Raises:
        InputError: it is no object, or holds what no answer could tell again.
    """
    if not text:
        return {}
    try:
        content = json.loads(text)
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InputError(f"{field} is no JSON that can be used: give an object such as {{}}") from error
    if not isinstance(content, dict):
        raise InputError(f"{field} is no JSON object: give one such as {{}}")
    return content


def in_json(known: Mapping[str, Check]) -> Check:
    """Return the check of the JSON of an object: its keys are known, its values of their kinds."""

    def check(field: str, value: Any) -> None:
        for key, inner in read_object(field, value).items():
            if key not in known:
                raise InputError(f"{field} says {shown(key)}, which is not taken here: use {', '.join(known)}")
            known[key](key, inner)

    return check
