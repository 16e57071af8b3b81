"""Label volumes beside stored maps: where they lie, and regions drawn around what they mark."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.data.regions import RegionDataset
from scripts.data.store_read import read_region, read_store_header
from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.io.header import check_same_grid
from scripts.io.read import read_header, read_volume
from scripts.parallel import progress_bar

__all__ = ["LabelledRegionDataset", "attach_labels"]

_PER_LABEL = 4096  # voxels of a label that regions are drawn around


def attach_labels(entries: Sequence[Mapping[str, Any]], suffix: str = "dseg") -> list[dict[str, Any]]:
    """Return ``entries`` with the label volume of each as ``"labels"``, cut as its stored maps are.

    Args:
        entries: of `scripts.data.store.prepare_store`.
        suffix: of the label file beside the PD map, as in ``sub-01_dseg.nii.gz``.

    Raises:
        InputError: for a label volume that is missing, on another grid, or not of whole numbers from 0 to 255.
    """
    return [{**entry, "labels": str(_attached(entry, suffix))} for entry in entries]


def _attached(entry: Mapping[str, Any], suffix: str) -> Path:
    pd = Path(entry["pd"])
    source = pd.with_name(pd.name.replace("_PDmap.", f"_{suffix}."))
    if not source.is_file():
        raise InputError(f"{source} is missing: labelled training needs the tissue labels of every subject there")
    status = source.stat()
    key = hashlib.sha256(f"{source.absolute()} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:8]
    store = Path(entry["store"])
    path = store.with_name(f"{store.stem}.{suffix}-{key}.npy")
    if not path.is_file():
        check_same_grid(read_header(source), read_header(pd))
        labels, _ = read_volume(source)
        if (labels != np.rint(labels)).any() or labels.min() < 0 or labels.max() > 255:
            raise InputError(f"{source} holds other values than whole numbers from 0 to 255: give a label volume")
        header = read_store_header(store)
        box = tuple(slice(o, o + n) for o, n in zip(header.offset, header.shape, strict=True))
        atomic_write(path, lambda part: np.save(part, labels[box].astype(np.uint8)[None]))
    return path


class LabelledRegionDataset(RegionDataset):
    """Regions of maps with their labels, drawn around voxels of chosen labels.

    Items have ``labels`` (1, R, R, R) uint8 besides what `RegionDataset` gives.

    Args:
        data: entries of `attach_labels`.
        region_size: side R of a region [voxels].
        batch_size: regions per step over all processes.
        seed: of every draw.
        sampling: label -> share of the regions drawn around a voxel of it, where the subject has that label; the
            rest is drawn around any voxel of the maps.
        resident: leave the reading to `scripts.data.resident.ResidentRegions`.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        region_size: int,
        batch_size: int,
        seed: int = 0,
        sampling: Mapping[Any, float] | None = None,
        *,
        resident: bool = False,
    ) -> None:
        super().__init__(data, region_size, batch_size, seed, resident=resident)
        self.sampling = {int(label): float(share) for label, share in (sampling or {}).items()}
        if min(self.sampling.values(), default=0) < 0 or sum(self.sampling.values()) > 1:
            raise InputError(f"sampling={dict(sampling or {})}: give shares of at least 0 that sum to at most 1")
        self.label_paths = {str(entry["store"]): str(entry["labels"]) for entry in data}
        self._marked: dict[str, dict[int, np.ndarray]] = {}

    def prepare(self, description: str) -> None:
        """Find where the labels lie in all scans, with a bar that is called ``description``."""
        wanted = [store for store in self.label_paths if self.sampling]
        with progress_bar(len(wanted), description, "scan", bool(wanted)) as bar:
            for store in wanted:
                self._voxels_of(store)
                bar.update()

    def candidates(self, store: str, draw: np.random.Generator) -> np.ndarray:
        """Return the voxels (n, 3) that a region of a scan may be drawn around."""
        dice = draw.random()
        for label, share in self.sampling.items():
            dice -= share
            if dice < 0:
                marked = self._voxels_of(store)[label]
                if len(marked):
                    return marked
                break
        return super().candidates(store, draw)

    def read(self, store: str, start: np.ndarray) -> dict[str, Any]:
        """Return the maps and labels of a region."""
        found = super().read(store, start)
        if self.resident:
            return {**found, "label_path": self.label_paths[store]}
        labels = read_region(self.label_paths[store], start.tolist(), (self.region_size,) * 3)
        return {**found, "labels": torch.from_numpy(labels)}

    def _voxels_of(self, store: str) -> dict[int, np.ndarray]:
        if store not in self._marked:
            volume = np.load(self.label_paths[store])[0]
            self._marked[store] = {label: _some(volume == label) for label in self.sampling}
        return self._marked[store]


def _some(mask: np.ndarray) -> np.ndarray:
    """Return up to `_PER_LABEL` voxels (n, 3) of a mask, evenly drawn."""
    voxels = np.flatnonzero(mask)
    if len(voxels) > _PER_LABEL:
        voxels = np.sort(np.random.default_rng(0).choice(voxels, _PER_LABEL, replace=False, shuffle=False))
    return np.stack(np.unravel_index(voxels, mask.shape), axis=1)
