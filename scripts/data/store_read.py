"""Reading a store of quantitative maps: headers, brain voxels, and regions without loading whole volumes.

Each scan is three files: ``NAME.npy``, its maps (4 or 5, I, J, K) as uncompressed float16, cut to the
bounding box of the brain; ``NAME.voxels.npy``, up to 4096 brain voxels (n, 3); and ``NAME.json``, the
`StoreHeader`. `scripts.data.store` writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scripts.errors import InputError

__all__ = ["StoreHeader", "read_region", "read_store_header", "read_voxels"]


@dataclass(frozen=True)
class StoreHeader:
    """What a stored volume is: where it lies in the scan, and what it was made from.

    Attributes:
        subject: name of the subject.
        maps: names of the channels.
        shape: of the stored volume, the bounding box of the brain, in voxels.
        offset: of its first voxel in the RAS+ scan, in voxels.
        original_shape: of the RAS+ scan, in voxels.
        spacing: voxel size [mm].
        affine: from voxels of the RAS+ scan to world coordinates [mm], (4, 4).
        sources: path, size [bytes] and modification time [ns] of each map's file.
        settings: units as asked for and the handling of NaN.
        substitutes: what stands in for maps that the scan lacks.
    """

    subject: str
    maps: tuple[str, ...]
    shape: tuple[int, int, int]
    offset: tuple[int, int, int]
    original_shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...]
    sources: Mapping[str, Sequence[Any]]
    settings: Mapping[str, Any]
    substitutes: Mapping[str, str]


def read_store_header(store_path: str | Path) -> StoreHeader:
    """Return the header of a stored volume.

    Raises:
        InputError: if there is none.
    """
    path = Path(store_path).with_suffix(".json")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged: delete it and prepare the store again") from error
    return StoreHeader(**{key: _tuples(value) for key, value in fields.items()})


def read_voxels(store_path: str | Path) -> np.ndarray:
    """Return brain voxels (n, 3), int16, n <= 4096, in coordinates of the stored volume, evenly drawn."""
    return _load(Path(store_path).with_suffix(".voxels.npy"))


def read_region(
    store_path: str | Path, start: Sequence[int], size: Sequence[int], *, channels: int | None = None
) -> np.ndarray:
    """Return the maps (C, *size) of a region as float16, 0 where it reaches beyond the stored volume.

    The file is mapped, the region copied and the mapping closed, so that memory does not depend on how many
    scans are read from.

    Args:
        store_path: ``"store"`` of an entry of `prepare_store`.
        start: first voxel (3,) of the region in the stored volume; may be negative.
        size: of the region (3,) in voxels.
        channels: how many of the maps to read, from the first; None reads all.
    """
    volume = _load(Path(store_path), mmap_mode="r")[:channels]
    inside, outside = [slice(None)], [slice(None)]
    for first, length, extent in zip(start, size, volume.shape[1:], strict=True):
        low, high = max(0, int(first)), min(extent, int(first) + int(length))
        inside.append(slice(low, max(low, high)))
        outside.append(slice(low - int(first), max(low, high) - int(first)))
    part = volume[tuple(inside)]
    shape = (volume.shape[0], *(int(length) for length in size))
    if part.shape == shape:
        return np.array(part)
    region = np.zeros(shape, dtype=volume.dtype)
    if part.size:
        region[tuple(outside)] = part
    return region


def _load(path: Path, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    try:
        return np.load(path, mmap_mode=mmap_mode)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is missing or damaged: delete its .json and prepare the store again") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
