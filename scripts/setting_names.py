"""Settings that no config has: what nothing in a merged config reads is refused, with the names that are near."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver

from scripts.errors import InputError

__all__ = ["check_names"]

_CLOSE = 0.8
"""Share of letters that two names of one place have in common, from which on one is taken for the other misspelt."""


def check_names(config: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """Refuse ids that nothing reads, wherever they came from: a command line, Python, or a file of one's own.

    An id that the bundle's training, or inference, does not have is read if something in the config refers to it or to
    what it holds (``@id``), and if it is a list of expressions, which MONAI can run by name. So is an argument of a
    component, and what stands in something that is referred to, unless its name is nearly that of another there:
    ``train::trainer::max_epoch``.

    Args:
        config: as merged of files and of what was set in their place, with macros in place.
        base: the bundle's ``train.json`` or ``inference.json``, without overlays.

    Raises:
        InputError: names the id and the nearest ones that there are.
    """
    referred = {name for text in _texts(config) for name in ReferenceResolver.match_refs_pattern(text)}
    names = list(_ids(base))
    for above, name, siblings, is_component in _new_names(config, base):
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
    node: Mapping[str, Any], base: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, str, list[str], bool]]:
    """Give of each new name: id of what holds it, name, known names beside it, whether that is a component."""
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name not in base:
            if above or not _can_run(value):
                yield above, name, list(base), "_target_" in node
            continue
        known = base[name]
        # another component has other arguments
        if isinstance(value, dict) and isinstance(known, dict) and value.get("_target_") == known.get("_target_"):
            yield from _new_names(value, known, f"{above}{name}::")


def _can_run(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and each.startswith(("$", "@")) for each in value)


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
