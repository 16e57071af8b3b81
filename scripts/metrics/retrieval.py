"""Cross-sequence retrieval: does the feature of an anatomy find that anatomy again in another sequence?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.metrics.arrays import Array, feature_array

__all__ = ["retrieval_hits", "unit_rows"]

# cosines of equal vectors differ by a few units in the last place of float64
_TIE = 1e-12


def retrieval_hits(features: Array) -> NDArray[np.float64]:
    """Return whether each anatomy finds itself in another sequence, (A, S, S): from s (second axis) into t (last).

    A query is one anatomy in sequence s, its gallery all anatomies in sequence t, and it hits, 1, when the
    nearest of the gallery by cosine similarity is the same anatomy, else 0. Where k anatomies tie it is 1 / k,
    what drawing one of them would hit on average, so features that collapsed to one point score 1 / A, as by
    chance; NaN where s == t. The mean over all queries and ordered pairs is the top-1 accuracy.

    Args:
        features: (A, S, D), A anatomies each seen in S sequences.

    Raises:
        InputError: features are not (A, S, D) with A, S >= 2, or not finite.

    Examples:
        Four anatomies under two sequences that the features do not know, and features that know nothing else:

        >>> invariant = np.repeat(np.eye(4)[:, None], 2, axis=1)
        >>> float(np.nanmean(retrieval_hits(invariant)))
        1.0
        >>> float(np.nanmean(retrieval_hits(np.broadcast_to(np.eye(2), (4, 2, 2)))))
        0.25
    """
    unit = unit_rows(features)
    n_anatomies, n_sequences, _ = unit.shape
    hits = np.full((n_anatomies, n_sequences, n_sequences), np.nan)
    for s in range(n_sequences):
        for t in range(n_sequences):
            if s != t:
                similarity = unit[:, s] @ unit[:, t].T
                nearest = similarity >= similarity.max(axis=1, keepdims=True) - _TIE
                hits[:, s, t] = nearest.diagonal() / nearest.sum(axis=1)
    return hits


def unit_rows(features: Array, *, min_sequences: int = 2) -> NDArray[np.float64]:
    """Return (A, S, D) features scaled to unit length; zero stays zero.

    Raises:
        InputError: features are not (A, S, D) with A >= 2 and S >= ``min_sequences``, or not finite.

    Examples:
        >>> unit_rows(np.array([[[3.0, 4.0]], [[0.0, 0.0]]]), min_sequences=1)[:, 0].tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    rows = feature_array(features, min_sequences=min_sequences)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit
