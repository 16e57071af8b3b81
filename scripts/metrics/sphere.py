"""Alignment and uniformity of features on the unit sphere (Wang & Isola 2020, arXiv:2005.10242)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.metrics.arrays import Array
from scripts.metrics.retrieval import unit_rows

__all__ = ["alignment", "alignment_by_anatomy", "alignment_by_chance", "potentials", "uniformity"]


def alignment(features: Array, *, alpha: float = 2.0) -> float:
    """Return the mean of |u - v|^alpha over the pairs of sequences of one anatomy; lower is more invariant.

    u and v are the features scaled to unit length, so with alpha = 2 the value lies in 0 .. 4, and 0 means
    that the sequence does not matter. Collapsed features also score 0: read it with `uniformity` and
    `alignment_by_chance`.

    Args:
        features: (A, S, D), A anatomies each seen in S sequences.
        alpha: exponent.

    Raises:
        InputError: features are not (A, S, D) with A, S >= 2, or not finite.
    """
    return float(alignment_by_anatomy(features, alpha=alpha).mean())


def alignment_by_anatomy(features: Array, *, alpha: float = 2.0) -> NDArray[np.float64]:
    """Return the alignment of each anatomy, (A,); the mean of it is `alignment`."""
    unit = unit_rows(features)
    first, second = np.triu_indices(unit.shape[1], k=1)
    distance = np.linalg.norm(unit[:, first] - unit[:, second], axis=-1)
    per_anatomy: NDArray[np.float64] = (distance**alpha).mean(axis=1)
    return per_anatomy


def alignment_by_chance(features: Array, *, alpha: float = 2.0) -> float:
    """Return the mean of |u - v|^alpha over pairs of *different* anatomies in different sequences.

    It is what `alignment` would be if the anatomies were paired at random; the ratio of the two says how
    much closer the same anatomy lies than another.
    """
    unit = unit_rows(features)
    n_anatomies, n_sequences, _ = unit.shape
    different = ~np.eye(n_anatomies, dtype=bool)
    means = [
        (_squared_distances(unit[:, s], unit[:, t])[different] ** (alpha / 2)).mean()
        for s in range(n_sequences)
        for t in range(s + 1, n_sequences)
    ]
    return float(np.mean(means))


def uniformity(features: Array, *, t: float = 2.0) -> float:
    """Return log of the mean of exp(-t |u - v|^2) over pairs of anatomies; lower is more spread out.

    0 means that all features collapsed to one point; with t = 2 two opposite points give -8. As in the
    authors' code it is taken within each view, here each sequence, and averaged over them.

    Args:
        features: (A, S, D), or (A, D) for one sequence.
        t: sharpness of the Gaussian potential.

    Raises:
        InputError: fewer than two anatomies, or features that are not finite.
    """
    pairs = potentials(features[:, None] if features.ndim == 2 else features, t=t)
    n_anatomies = pairs.shape[1]
    mean = pairs.sum(axis=(1, 2)) / (n_anatomies * (n_anatomies - 1))
    return float(np.log(mean).mean())


def potentials(features: Array, *, t: float = 2.0) -> NDArray[np.float64]:
    """Return exp(-t |u - v|^2) for the anatomies of each sequence, (S, A, A), 0 on the diagonal."""
    unit = unit_rows(features, min_sequences=1)
    pairs = np.stack([np.exp(-t * _squared_distances(unit[:, s], unit[:, s])) for s in range(unit.shape[1])])
    diagonal = np.arange(unit.shape[0])
    pairs[:, diagonal, diagonal] = 0
    return pairs


def _squared_distances(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distances of all rows of two (A, D) arrays, (A, A), without forming differences."""
    squares = (u * u).sum(axis=1)[:, None] + (v * v).sum(axis=1)[None] - 2 * u @ v.T
    clipped: NDArray[np.float64] = squares.clip(min=0)
    return clipped
