"""A table of the volumes of segmented classes, for all label files of a folder."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from monai.config import KeysCollection
from monai.transforms import MapTransform
from numpy.typing import NDArray

from scripts.errors import InputError, printable
from scripts.io.files import atomic_write

__all__ = ["TABLE", "VolumeTabled"]

TABLE = "volumes.csv"
_COLUMNS = ("image", "labels", "class", "voxels", "volume_ml")


class VolumeTabled(MapTransform):
    """Put the volumes of the classes of written label maps into ``<output_dir>/volumes.csv``, one row a class.

    Args:
        keys: of labels (1, X, Y, Z), a `MetaTensor` that `scripts.transforms.save_volume.SaveVolumed` has written.
        output_dir: its folder. One process at a time may write to the table.
        classes: value -> name of each class but the background, 0.
    """

    def __init__(self, keys: KeysCollection, output_dir: str | Path, classes: Mapping[Any, str]) -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.classes = {int(value): str(name) for value, name in classes.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the rows.

        Raises:
            InputError: the file there is no such table.
        """
        for key in self.key_iterator(dict(data)):
            volume = data[key]
            file = Path(data[f"{key}_file"]).relative_to(self.output_dir).as_posix()
            labels, affine = volume.cpu().numpy()[0].astype(np.int64), volume.affine.cpu().numpy()
            source = printable(volume.meta["filename_or_obj"])
            try:
                _add_volumes(self.output_dir / TABLE, source, file, labels, affine, self.classes)
            except BaseException:
                (self.output_dir / file).unlink()  # labels stand with their row or not at all
                raise
        return dict(data)


def _add_volumes(
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
    known = pd.DataFrame(columns=list(_COLUMNS))
    if table.is_file():
        try:
            known = pd.read_csv(table, dtype=dict.fromkeys(_COLUMNS[:3], str), keep_default_na=False)[list(_COLUMNS)]
        except (KeyError, ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{table} is no table with the columns {', '.join(_COLUMNS)}: move it away") from error
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
    fresh = pd.DataFrame(rows, columns=list(_COLUMNS))
    merged = pd.concat([kept, fresh]) if len(kept) else fresh
    return atomic_write(table, partial(merged.to_csv, index=False))
