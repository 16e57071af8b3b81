"""What defines a run: recorded in its checkpoint and in MLflow, compared when it is continued."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["RunSettings"]


class RunSettings(Mapping[str, Any]):
    """Values of a config's ids, and what is known of data and network besides.

    Read it once the run has started: an id has its value when the components that use it are made.

    Args:
        resolved: id -> value, as MONAI's expressions have it under the name ``__local_refs``.
        knobs: ids to record; one that no component uses, such as the temperature of another loss, is left out.
        more: further names and values.
    """

    def __init__(self, resolved: Mapping[str, Any], knobs: Sequence[str], more: Mapping[str, Any]) -> None:
        self._resolved = resolved
        self._knobs = tuple(knobs)
        self._more = dict(more)

    def __getitem__(self, name: str) -> Any:
        """Return a number, a string or a bool; lists, dicts and None as Python writes them."""
        if name in self._more:
            return self._more[name]
        if name not in self._knobs:
            raise KeyError(name)
        value = self._resolved[name]
        return value if isinstance(value, str | int | float) else str(value)

    def __iter__(self) -> Iterator[str]:
        """Return the names of what is recorded."""
        return iter([*(name for name in self._knobs if name in self._resolved), *self._more])

    def __len__(self) -> int:
        """Return how many there are."""
        return len(list(iter(self)))
