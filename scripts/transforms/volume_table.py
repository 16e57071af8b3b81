"""A table of the volumes of segmented classes, for all label files of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.io.files import atomic_write

__all__ = ["COLUMNS", "add_volumes"]

COLUMNS = ("image", "labels", "class", "voxels", "volume_ml")


def add_volumes(
    table: Path,
    image: str,
    labels_file: str,
    labels: NDArray[np.integer],
    affine: NDArray[np.float64],
    classes: Mapping[int, str],
) -> Path:
    """Put one row per class of a label map into a table, in place of the rows of an earlier file of that name.

    Args:
        table: CSV file, made if missing; it changes as a whole or not at all.
        image: file that was segmented.
        labels_file: file of the labels, relative to the table.
        labels: (I, J, K).
        affine: (4, 4) of the labels [mm].
        classes: value -> name, background left out.

    Raises:
        InputError: the file there is no such table.
    """
    known = pd.DataFrame(columns=list(COLUMNS))
    if table.is_file():
        try:
            known = pd.read_csv(table, dtype=dict.fromkeys(COLUMNS[:3], str), keep_default_na=False)[list(COLUMNS)]
        except (KeyError, ValueError, UnicodeDecodeError) as error:
            told = ", ".join(COLUMNS)
            raise InputError(f"{table} is no table with the columns {told}: move it away") from error
    counts = np.bincount(labels.ravel(), minlength=max(classes) + 1)
    millilitres = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    rows = [
        {
            "image": image,
            "labels": labels_file,
            "class": name,
            "voxels": int(counts[value]),
            "volume_ml": round(counts[value] * millilitres, 6),
        }
        for value, name in classes.items()
    ]
    kept = known[known["labels"] != labels_file]
    fresh = pd.DataFrame(rows, columns=list(COLUMNS))
    merged = pd.concat([kept, fresh]) if len(kept) else fresh
    return atomic_write(table, partial(merged.to_csv, index=False))
