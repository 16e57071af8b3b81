"""A table of the maps that were found, one row an image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor

from scripts.errors import InputError, printable
from scripts.io.files import atomic_write
from scripts.transforms.map_volumes import MAP_KEYS

__all__ = ["TABLE", "MapTabled"]

TABLE = "maps.csv"
_TEXT = ("image", "maps", "protocol", "warning")
_COLUMNS = ("image", "maps", "residual", "protocol", "warning", *(f"median_{name}" for name in MAP_KEYS))


class MapTabled(MapTransform):
    """Put an image's row into ``<output_dir>/maps.csv``: its residual, the nearest protocol, medians over the head.

    Args:
        keys: of maps (4 or more, I, J, K); one key.
        output_dir: folder of the written maps. One process at a time may write to the table.
        head_key: of the head's mask (1, I, J, K).
    """

    def __init__(self, keys: KeysCollection, output_dir: str | Path, head_key: str = "foreground") -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.head_key = head_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the row.

        Raises:
            InputError: the file there is no such table.
        """
        for key in self.key_iterator(dict(data)):
            maps, head = data[key], data[self.head_key].as_subclass(Tensor)[0] > 0
            medians = maps.as_subclass(Tensor)[: len(MAP_KEYS), head.to(maps.device)].float().median(dim=1).values
            row = {
                "image": printable(maps.meta["filename_or_obj"]),
                "maps": Path(data[f"{MAP_KEYS[0]}_file"]).relative_to(self.output_dir).as_posix(),
                "residual": round(data["residual"], 4),
                "protocol": data["protocol"],
                "warning": data["warning"],
                **{f"median_{name}": round(float(one), 4) for name, one in zip(MAP_KEYS, medians, strict=True)},
            }
            try:
                _put_row(self.output_dir / TABLE, row)
            except BaseException:
                for name in [name for name in data if str(name).endswith("_file")]:
                    Path(data[name]).unlink()  # maps stand with their row or not at all
                raise
        return dict(data)


def _put_row(table: Path, row: Mapping[str, Any]) -> None:
    """Put a row into a table, in place of an earlier one of the same maps; it changes as a whole or not at all.

    Raises:
        InputError: the file there is no such table.
    """
    fresh = pd.DataFrame([row], columns=list(_COLUMNS))
    if table.is_file():
        try:
            known = pd.read_csv(table, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False)[list(_COLUMNS)]
        except (KeyError, ValueError, UnicodeDecodeError) as error:
            raise InputError(f"{table} is no table with the columns {', '.join(_COLUMNS)}: move it away") from error
        kept = known[known["maps"] != row["maps"]]
        fresh = pd.concat([kept, fresh]) if len(kept) else fresh
    atomic_write(table, partial(fresh.to_csv, index=False))
