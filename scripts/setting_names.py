"""Settings that no config has: what nothing in a merged config reads is refused, with the names that are near."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver

from scripts.errors import InputError

__all__ = ["check_names"]

_CLOSE = 0.8
"""Share of letters that two names of one place have in common, from which on one is taken for the other misspelt."""


def check_names(config: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> None:
    """Refuse ids that nothing reads, wherever they came from: a command line, Python, or a file of one's own.

    An id that the bundle's own configs do not have is read if something in the config refers to it or to what it holds
    (``@id``). So is an argument of a component, and what stands in something that is referred to, unless its name is
    nearly that of another there: ``train::trainer::max_epoch``.

    Args:
        config: as merged of files and of what was set in their place, with macros in place.
        known: the bundle's own configs.

    Raises:
        InputError: names the id and the nearest ones that there are.
    """
    referred = {name for text in _texts(config) for name in ReferenceResolver.match_refs_pattern(text)}
    names = list(dict.fromkeys(name for each in known for name in _ids(each)))
    for above, name, siblings, is_component in _new_names(config, known):
        path = f"{above}{name}"
        if any(other == path or _holds(path, other) for other in referred):
            continue
        is_handed_over = is_component or any(_holds(other, path) for other in referred)
        if is_handed_over and not difflib.get_close_matches(name, siblings, cutoff=_CLOSE):
            continue
        near = difflib.get_close_matches(path, names, n=3, cutoff=0.6) or difflib.get_close_matches(
            name, [each for each in names if "::" not in each], n=3, cutoff=0.4
        )
        hint = f"did you mean {' or '.join(near)}?" if near else "the bundle's configs name what there is"
        raise InputError(f"{path}: the config has no such setting; {hint}")


def _new_names(
    node: Mapping[str, Any], known: Sequence[Mapping[str, Any]], above: str = ""
) -> Iterator[tuple[str, str, list[str], bool]]:
    """Give of each new name: id of what holds it, name, known names beside it, whether that is a component."""
    siblings = [name for each in known for name in each]
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name not in siblings:
            yield above, name, siblings, "_target_" in node
        elif isinstance(value, dict):
            same = [each[name] for each in known if isinstance(each.get(name), dict)]
            if "_target_" in value:  # another component has other arguments
                same = [each for each in same if each.get("_target_") == value["_target_"]]
            if same:
                yield from _new_names(value, same, f"{above}{name}::")


def _holds(outer: str, inner: str) -> bool:
    return inner.startswith(f"{outer}::")


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(inner)


def _ids(node: Any, above: str = "") -> Iterator[str]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield f"{above}{key}"
        yield from _ids(value, f"{above}{key}::")
