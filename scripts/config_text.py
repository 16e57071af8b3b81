"""How a config is written: as the zoo writes JSON, but what is short takes one line."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["format_config"]

_INDENT = 4
_WIDTH = 120


def format_config(config: Any) -> str:
    """Return the text of a config's file.

    Lists of plain values, settings and components stand on one line where they fit, long lists of numbers and names
    on as few as they need. What holds components, and a list of expressions, has a line an entry, so that each can be
    read, and changed, by itself.

    >>> print(format_config({"size": [96, 96, 96], "run": ["$@a"], "flip": {"_target_": "Flip", "prob": 0.5}}), end="")
    {
        "size": [96, 96, 96],
        "run": [
            "$@a"
        ],
        "flip": {"_target_": "Flip", "prob": 0.5}
    }
    """
    return _lines(config, 0, 0) + "\n"


def _lines(node: Any, depth: int, column: int) -> str:
    line = json.dumps(node, ensure_ascii=False)
    if not isinstance(node, dict | list) or not node or (depth and _is_short(node) and column + len(line) <= _WIDTH):
        return line
    inner, end = " " * _INDENT * (depth + 1), " " * _INDENT * depth
    if isinstance(node, list):
        left, right = "[]"
        parts = [inner + _lines(value, depth + 1, len(inner)) for value in node]
        if all(isinstance(value, int | float) or re.fullmatch(r"\w+", str(value)) for value in node):
            parts = [inner + row.rstrip(",") for row in textwrap.wrap(line[1:-1], _WIDTH - len(inner))]
    else:
        left, right = "{}"
        keys = [f"{inner}{json.dumps(key, ensure_ascii=False)}: " for key in node]
        parts = [key + _lines(value, depth + 1, len(key)) for key, value in zip(keys, node.values(), strict=True)]
    return f"{left}\n" + ",\n".join(parts) + f"\n{end}{right}"


def _is_short(node: dict[str, Any] | list[Any]) -> bool:
    if isinstance(node, dict):
        return all(
            not isinstance(value, dict) and (not isinstance(value, list) or _is_short(value)) for value in node.values()
        )
    return all(
        _is_short(value) if isinstance(value, list) else not isinstance(value, dict) and not str(value).startswith("$")
        for value in node
    )


def main(paths: Sequence[str]) -> int:
    """Rewrite files that are written otherwise, and return whether there were any."""
    changed = 0
    for path in map(Path, paths):
        text = path.read_text(encoding="utf-8")
        formatted = format_config(json.loads(text))
        if formatted != text:
            path.write_text(formatted, encoding="utf-8")
            changed = 1
    return changed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
