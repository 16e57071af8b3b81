"""A figure before it is a file, and its error bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Drawing", "error_bars"]


@dataclass(frozen=True)
class Drawing:
    """A figure before it is a file.

    Attributes:
        title: of the figure, a few words.
        caption: what is drawn, of what, and how to read it.
        figure: the matplotlib figure.
    """

    title: str
    caption: str
    figure: Any


def error_bars(table: pd.DataFrame) -> np.ndarray:
    """Return the lengths (2, N) of intervals below and above their means, as matplotlib takes them.

    Args:
        table: ``mean``, ``low`` and ``high``, as `scripts.experiment.results.scores.means` returns them.
    """
    lengths = np.stack([table["mean"] - table["low"], table["high"] - table["mean"]])
    # rounding leaves -1e-17 where all subjects are equal, which matplotlib refuses
    return np.where(np.isnan(lengths), np.nan, np.maximum(lengths, 0))
