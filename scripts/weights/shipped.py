"""Weights that come with the checkout: a small network and a card that says how it is applied and what it is worth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import InputError

__all__ = ["Shipped", "shipped_weights"]


@dataclass(frozen=True)
class Shipped:
    """A shipped network.

    Attributes:
        path: its tensors, in half precision.
        inference: settings of the bundle's inference.json under which it runs.
        summary: what it is, in a line.
    """

    path: Path
    inference: dict[str, Any]
    summary: str


def shipped_weights(bundle: Path) -> Shipped | None:
    """Return the network that comes with a bundle, None where none does.

    Args:
        bundle: its folder, with ``weights/model.pt`` and ``weights/card.json``.

    Raises:
        InputError: for a card that cannot be read.
    """
    path, card = bundle / "weights" / "model.pt", bundle / "weights" / "card.json"
    if not path.is_file() or not card.is_file():
        return None
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
        return Shipped(path, dict(content["inference"]), str(content["summary"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{card} is no card of weights: check out the file again") from error
