"""Cells of dense feature maps that show the same place of an anatomy in every sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.metrics.arrays import Array, to_array

__all__ = ["Cells", "corresponding_cells"]


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


def corresponding_cells(
    dense: Array,
    subjects: Sequence[str],
    *,
    tissue: Array | None = None,
    brain: Array | None = None,
    max_cells: int | None = 512,
    seed: int = 0,
) -> Cells:
    """Return a random subset of the brain cells of dense feature maps.

    Args:
        dense: (A, S, C, M) features of M cells; a cell lies at the same place of an anatomy in all sequences.
        subjects: (A,) subject of each anatomy.
        tissue: (A, T, M) tissue fractions, as `tissue_fractions(...).flatten(2)`.
        brain: (A, M) true where a cell is brain; None takes the cells with any tissue, or all of them.
        max_cells: cells to keep over all anatomies; None keeps all.
        seed: of the choice.

    Raises:
        InputError: shapes that do not fit, or fewer than two brain cells.
    """
    shares = None if tissue is None else to_array(tissue)
    shape = tuple(dense.shape)
    if len(shape) != 4 or len(subjects) != shape[0]:
        msg = f"dense must be (A, S, C, M) with A subjects, got {shape} and {len(subjects)} subjects"
        raise InputError(msg)
    n_anatomies, n_cells = shape[0], shape[3]
    if shares is not None and (shares.ndim, len(shares), shares.shape[-1]) != (3, n_anatomies, n_cells):
        msg = f"tissue must be (A, T, M) for dense of shape {shape}, got {shares.shape}"
        raise InputError(msg)
    if brain is not None:
        chosen = to_array(brain).reshape(n_anatomies, n_cells) > 0
    else:
        chosen = np.ones((n_anatomies, n_cells), bool) if shares is None else shares.sum(axis=1) > 0
    anatomy, cell = np.nonzero(chosen)
    if len(anatomy) < 2:
        msg = f"only {len(anatomy)} cells hold brain, at least 2 are needed: evaluate more or larger patches"
        raise InputError(msg)
    if max_cells is not None and len(anatomy) > max_cells:
        kept = np.sort(np.random.default_rng(seed).permutation(len(anatomy))[:max_cells])
        anatomy, cell = anatomy[kept], cell[kept]
    return Cells(
        to_array(dense[anatomy, :, :, cell]),
        np.asarray(subjects)[anatomy],
        None if shares is None else shares[anatomy, :, cell],
    )
