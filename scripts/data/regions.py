"""Regions of quantitative maps, drawn as a function of (seed, step, slot) alone.

The same run therefore resumes to the same bits, and neither the number of workers nor the number of processes
changes what is drawn: item ``step * batch_size + slot`` is always the same region of the same scan.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from scripts.data.store_read import read_region, read_store_header, read_voxels
from scripts.errors import InputError

__all__ = ["RegionDataset", "StepSampler"]

# First words of the entropy, so that the two kinds of draws never share a stream: numpy takes missing words
# for zeros, hence (seed, step) and (seed, step, 0) would be one stream.
_SUBJECTS, _REGION = 1, 2

logger = logging.getLogger(__name__)


class RegionDataset(Dataset[dict[str, Any]]):
    """Cubic regions around brain voxels; an endless stream of batches of different subjects.

    Item ``step * batch_size + slot`` is ``{"maps", "subject", "start", "step", "slot"}``: maps (C, R, R, R)
    float16 in project units, name of the subject, first voxel (3,) int64 of the region in the RAS+ scan. The
    subjects of one step differ from each other. A region is placed at random around a brain voxel, within the
    bounding box of the brain; along an axis where that is too short, it is centred on the box and padded with
    0. So it always holds brain. Where some scans lack R2, no region has it.

    Args:
        data: entries of `scripts.data.store.prepare_store`.
        region_size: side R of a region, in voxels.
        batch_size: regions per step over all processes.
        seed: of every draw.
        resident: leave the reading to `scripts.data.resident.ResidentRegions`: items then have ``store`` (the path)
            and ``corner`` (3,) in place of the maps.

    Raises:
        InputError: if there are fewer subjects than ``batch_size``, or a number is out of range.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        region_size: int,
        batch_size: int,
        seed: int = 0,
        *,
        resident: bool = False,
    ) -> None:
        _require_at_least(1, region_size=region_size, batch_size=batch_size)
        _require_at_least(0, seed=seed)
        self.region_size = region_size
        self.batch_size = batch_size
        self.seed = seed
        self.resident = resident
        self._scans: dict[str, list[tuple[str, tuple[int, ...], tuple[int, ...]]]] = {}
        channels, small = set(), []
        for entry in data:
            header = read_store_header(entry["store"])
            channels.add(len(header.maps))
            scan = (str(entry["store"]), header.shape, header.offset)
            self._scans.setdefault(str(entry["subject"]), []).append(scan)
            if min(header.shape) < region_size:
                small.append((str(entry["subject"]), header.shape))
        self.subjects = sorted(self._scans)
        if len(self.subjects) < batch_size:
            n = len(self.subjects)  # of one alone, there is nothing to tell it from
            cure = f"set batch_size to {n} or less, or add subjects" if n > 1 else "add subjects, as 2 are the least"
            raise InputError(f"{n} subjects are fewer than a batch of {batch_size} different ones: {cure}")
        self.channels = min(channels)
        self._tell(small, mixed=len(channels) > 1)

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, slot = divmod(int(index), self.batch_size)
        order = np.random.default_rng([_SUBJECTS, self.seed, step])
        chosen = order.choice(len(self.subjects), self.batch_size, replace=False)[slot]
        subject = self.subjects[int(chosen)]
        draw = np.random.default_rng([_REGION, self.seed, step, slot])
        scans = self._scans[subject]
        store, shape, offset = scans[int(draw.integers(len(scans)))]
        voxels = self.candidates(store, draw)
        start = self._place(voxels[int(draw.integers(len(voxels)))], shape, draw)
        return {
            **self.read(store, start),
            "subject": subject,
            "start": torch.from_numpy(start + np.asarray(offset, dtype=np.int64)),
            "step": step,
            "slot": slot,
        }

    def candidates(self, store: str, draw: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """Return the voxels (n, 3) that a region of a scan may be drawn around."""
        return read_voxels(store)

    def read(self, store: str, start: np.ndarray) -> dict[str, Any]:
        """Return the maps of the region whose first voxel is ``start``, or where they are found."""
        if self.resident:
            return {"store": store, "corner": torch.from_numpy(start)}
        region = read_region(store, start.tolist(), (self.region_size,) * 3, channels=self.channels)
        return {"maps": torch.from_numpy(region)}

    def _place(self, voxel: np.ndarray, shape: Sequence[int], draw: np.random.Generator) -> np.ndarray:
        """Return the first voxel (3,) int64 of a region around ``voxel`` in a volume of ``shape``.

        Evenly drawn among the places within the volume that hold the voxel a quarter of the side away from the
        faces, or nearest to that: views, which cut off up to a sixth there, then show the voxel too. Centring on
        it instead would push most regions against the box: at the paper's size, 116 voxels in a brain of 145, two
        starts of three would be 0 or the last one on each axis.
        """
        room = np.asarray(shape, dtype=np.int64) - self.region_size
        margin = self.region_size // 4
        last = np.maximum(room, 0)
        low = np.clip(voxel - (self.region_size - 1 - margin), 0, last)
        high = np.clip(voxel - margin, 0, last)
        return np.where(room < 0, room // 2, draw.integers(low, high, endpoint=True))

    def _tell(self, small: Sequence[tuple[str, tuple[int, ...]]], *, mixed: bool) -> None:
        if mixed:
            logger.warning("some scans have no R2 map: R2 is left out for all")
        if small:
            name, shape = small[0]
            more = f" and {len(small) - 1} more" if len(small) > 1 else ""
            size = "x".join(map(str, shape))
            logger.warning(
                "brain of %s (%s voxels)%s smaller than the region of %d: padded with 0",
                name,
                size,
                more,
                self.region_size,
            )


class StepSampler(Sampler[list[int]]):
    """Batches of indices into a `RegionDataset`: this process's share of each step, in order.

    Used as ``batch_sampler``. To resume, set ``start`` to the number of steps done before iterating.

    Args:
        batch_size: regions per step over all processes.
        rank: of this process.
        world_size: number of processes.
        start: first step.
        steps: number of steps of the whole stream, counted from step 0; None goes on for ever.

    Raises:
        InputError: if ``batch_size`` is not a multiple of ``world_size``, or a number is out of range.
    """

    def __init__(
        self, batch_size: int, *, rank: int = 0, world_size: int = 1, start: int = 0, steps: int | None = None
    ) -> None:
        _require_at_least(1, batch_size=batch_size, world_size=world_size)
        _require_at_least(0, start=start)
        if batch_size % world_size:
            raise InputError(f"batch_size={batch_size} cannot be shared by {world_size} processes: make it a multiple")
        if not 0 <= rank < world_size:
            raise InputError(f"rank={rank} is not one of {world_size} processes: count from 0")
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.steps = steps

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // self.world_size
        steps = itertools.count(self.start) if self.steps is None else range(self.start, self.steps)
        for step in steps:
            first = step * self.batch_size + self.rank * share
            yield list(range(first, first + share))

    def __len__(self) -> int:
        if self.steps is None:
            raise TypeError("an endless StepSampler has no length: give steps")
        return max(0, self.steps - self.start)


def _require_at_least(least: int, **settings: int) -> None:
    for name, value in settings.items():
        if value < least:
            raise InputError(f"{name}={value}: give {least} or more")
