"""Weights that come with the checkout: a small network and a card that says how it is applied and what it is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.errors import InputError

__all__ = ["Card", "read_card", "shipped_file"]


@dataclass(frozen=True)
class Card:
    """What is known of a shipped network.

    Attributes:
        path: the card.
        sha256: of the file of weights.
        summary: what the network is, in a line.
        inference: settings of the bundle's inference.json under which it runs.
        training: settings of its training.
        steps: of its training.
        scores: measure -> value, in words.
    """

    path: Path
    sha256: str
    summary: str
    inference: Mapping[str, Any]
    training: Mapping[str, Any]
    steps: int
    scores: Mapping[str, str]

    def check(self, sha256: str) -> None:
        """Raise `InputError` where weights of this hash are others than the card's."""
        if sha256 != self.sha256:
            raise InputError(
                f"{self.path} is of other weights than model.pt beside it: check out both again (`git checkout`), "
                "and put a network of your own into the bundle's folder models"
            )


def shipped_file(bundle: Path) -> Path:
    """Return where the weights that come with a bundle lie, whether or not it has some."""
    return bundle / "weights" / "model.pt"


def read_card(weights: Path) -> Card | None:
    """Return the card beside weights, None where there is none.

    Args:
        weights: the file, with ``card.json`` beside it.

    Raises:
        InputError: for a card that cannot be read.
    """
    path = weights.with_name("card.json")
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        training = content["training"]
        return Card(
            path,
            str(content["sha256"]),
            str(content["summary"]),
            dict(content["inference"]),
            dict(training["settings"]),
            int(training["steps"]),
            {str(name): str(value) for name, value in content["scores"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no card of weights: check out the file again") from error
