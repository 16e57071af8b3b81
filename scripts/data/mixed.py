"""Training images and simulated contrasts in one stream: a step is of one kind or of the other."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch.utils.data import Dataset

from scripts.errors import InputError

__all__ = ["MixedDataset"]

_KIND = 5  # first word of the entropy, see scripts.data.regions


class _Prepared(Protocol):
    def __getitem__(self, index: int) -> Any: ...
    def prepare(self, description: str) -> None: ...


class MixedDataset(Dataset[Any]):
    """An endless stream whose items of one step are all patches of images, or all labelled regions of maps.

    Which of the two is a function of (seed, step) alone, so that a resumed run sees what the uninterrupted one would
    have, whatever the number of workers or processes.

    Args:
        images: patches of labelled images, `scripts.data.patches.PatchDataset`.
        simulated: labelled regions of maps, `scripts.data.labels.LabelledRegionDataset`.
        fraction: share of the steps that are simulated, 0 to 1.
        batch_size: items of a step over all processes, the same in both.
        seed: of the draw.

    Raises:
        InputError: for a fraction outside 0 to 1.
    """

    def __init__(
        self, images: _Prepared, simulated: _Prepared, fraction: float, batch_size: int, seed: int = 0
    ) -> None:
        if not 0 <= fraction <= 1:
            raise InputError(f"synthetic={fraction}: give the share of the steps that are simulated, 0 to 1")
        self.images = images
        self.simulated = simulated
        self.fraction = fraction
        self.batch_size = batch_size
        self.seed = seed

    def is_simulated(self, step: int) -> bool:
        """Return whether a step shows simulated contrasts."""
        return bool(np.random.default_rng([_KIND, self.seed, step]).random() < self.fraction)

    def prepare(self, description: str) -> None:
        """Prepare both kinds, each with a bar that is called ``description``."""
        self.images.prepare(description)
        self.simulated.prepare(description)

    def __getitem__(self, index: int) -> Any:
        chosen = self.simulated if self.is_simulated(int(index) // self.batch_size) else self.images
        return chosen[index]
