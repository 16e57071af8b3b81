"""Cross-sequence retrieval: does the feature of an anatomy find that anatomy again in another sequence?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.metrics.arrays import Array, feature_array

__all__ = ["retrieval_hits", "retrieval_matrix", "retrieval_top1", "unit_rows"]

# cosines of equal vectors differ by a few units in the last place of float64
TIE = 1e-12


def retrieval_top1(features: Array, *, centre: bool = False) -> float:
    """Return the top-1 accuracy of finding an anatomy in another sequence; by chance 1 / A.

    A query is one anatomy in sequence s, its gallery all anatomies in sequence t, and it hits when the
    nearest of the gallery by cosine similarity is the same anatomy. The mean is taken over all queries and
    all ordered pairs s != t.

    Args:
        features: (A, S, D), A anatomies each seen in S sequences.
        centre: subtract each sequence's mean over anatomies first, which forgives a constant offset between
            sequences.

    Raises:
        InputError: features are not (A, S, D) with A, S >= 2, or not finite.
    """
    return float(np.nanmean(retrieval_hits(features, centre=centre)))


def retrieval_matrix(features: Array, *, centre: bool = False) -> NDArray[np.float64]:
    """Return the top-1 accuracy from sequence s (row) into sequence t (column), (S, S); NaN where s == t."""
    matrix: NDArray[np.float64] = retrieval_hits(features, centre=centre).mean(axis=0)
    return matrix


def retrieval_hits(features: Array, *, centre: bool = False) -> NDArray[np.float64]:
    """Return each query's hit, (A, S, S): 1 or 0, or 1 / k when k anatomies tie; NaN where s == t.

    A tie counts as what drawing one of the k would hit on average, so features that collapsed to one point
    score 1 / A. Arguments and errors as in `retrieval_top1`.
    """
    unit = unit_rows(features, centre=centre)
    n_anatomies, n_sequences, _ = unit.shape
    hits = np.full((n_anatomies, n_sequences, n_sequences), np.nan)
    for s in range(n_sequences):
        for t in range(n_sequences):
            if s != t:
                similarity = unit[:, s] @ unit[:, t].T
                nearest = similarity >= similarity.max(axis=1, keepdims=True) - TIE
                hits[:, s, t] = nearest.diagonal() / nearest.sum(axis=1)
    return hits


def unit_rows(features: Array, *, centre: bool = False, min_sequences: int = 2) -> NDArray[np.float64]:
    """Return (A, S, D) features scaled to unit length (zero stays zero), centred per sequence if asked."""
    rows = feature_array(features, min_sequences=min_sequences)
    if centre:
        rows = rows - rows.mean(axis=0)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
