"""Whole heads from label maps in the scanner, see `scripts.cohort.scanner`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.cohort.label_cohort import LabelSource, make_label_head
from scripts.cohort.lattice import Array, Grid

__all__ = ["ScannedLabelHead", "scan_head"]


@dataclass(frozen=True)
class ScannedLabelHead:
    """One head on a grid, as `scripts.cohort.scanner.InScanner` describes it."""

    grid: Grid
    maps: dict[str, Array]
    brain: NDArray[np.bool_]
    shares: Array
    extent: Array | None


def scan_head(
    source: LabelSource,
    index: int,
    number: int,
    seed: int,
    spacing: float,
    field_strength: float,
    *,
    has_lesion: bool = False,
) -> ScannedLabelHead:
    """Make a head at a field strength [T]; the arguments are those of `scripts.cohort.label_cohort.make_label_head`."""
    place, head = make_label_head(
        source, index, number, seed, spacing, has_lesion=has_lesion, field_strength=field_strength
    )
    grey, white, fluid, deep = head.shares
    maps = {name: place.volume(values) for name, values in head.maps.items()}
    shares = np.stack([place.volume(values) for values in (grey + deep, white, fluid)]).clip(0.0, 1.0)
    extent = None if head.lesion is None else place.volume(head.lesion.extent)
    return ScannedLabelHead(place.grid, maps, place.volume(head.segments > 0), shares, extent)
