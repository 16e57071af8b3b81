"""Cells of dense feature maps that show the same place of an anatomy in every sequence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.metrics.tissue_mix import brain_share, tissue_fractions

__all__ = ["Cells", "sample_cells"]

_MOSTLY = 0.5


@dataclass(frozen=True)
class Cells:
    """Cells of dense feature maps that show the same place in every sequence.

    Attributes:
        features: (P, S, C).
        subjects: (P,) subject of each cell.
        tissue: (P, T) tissue fractions of each cell, or None.
    """

    features: NDArray[np.float64]
    subjects: NDArray[np.generic]
    tissue: NDArray[np.float64] | None = None


def sample_cells(dense: Tensor, maps: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return up to ``n`` random cells of one anatomy's feature maps, of those that are at least half brain.

    Args:
        dense: (S, C, d, h, w), the anatomy's feature maps in each sequence.
        maps: (4 or 5, I, J, K), its maps, PD and R1 [1/s] first; d, h and w divide I, J and K.
        n: cells to take.
        generator: where the randomness comes from; on the CPU.

    Returns:
        Features (m, S, C) and tissue fractions (m, 3) of m <= n cells, on the device of ``dense``.

    Raises:
        InputError: maps without PD and R1, or cells that do not divide them.

    Examples:
        Of two cells one is brain, white matter (R1 = 0.95 1/s at 3 T):

        >>> maps = torch.tensor([[70.0, 0.0], [0.95, 0.0]]).view(2, 2, 1, 1)
        >>> dense = torch.tensor([[5.0, 6.0], [7.0, 8.0]]).view(2, 1, 2, 1, 1)
        >>> features, tissue = sample_cells(dense, maps, 16, torch.Generator())
        >>> features.tolist(), tissue.tolist()
        ([[[5.0], [7.0]]], [[0.0, 1.0, 0.0]])
    """
    grid = (dense.shape[2], dense.shape[3], dense.shape[4])
    brain = (brain_share(maps[None], grid).flatten() >= _MOSTLY).nonzero()[:, 0].cpu()
    kept = brain[torch.randperm(len(brain), generator=generator)[:n]].to(dense.device)
    tissue = tissue_fractions(maps[None], grid)[0].flatten(1)
    return dense.flatten(2)[:, :, kept].permute(2, 0, 1), tissue[:, kept].T
