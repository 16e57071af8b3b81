"""Alignment and uniformity of features on the unit sphere (Wang & Isola 2020, arXiv:2005.10242)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.metrics.arrays import Array
from scripts.metrics.retrieval import unit_rows

__all__ = ["alignment_by_anatomy", "alignment_by_chance", "potentials", "uniformity"]

_SHARPNESS = 2.0
"""Of the Gaussian potential, t in the reference."""


def alignment_by_anatomy(features: Array) -> NDArray[np.float64]:
    """Return the mean of |u - v|^2 over the pairs of sequences of each anatomy, (A,); lower is more invariant.

    u and v are the features scaled to unit length, so it lies in 0 .. 4, and 0 means that the sequence does not
    matter. Collapsed features also score 0: read it with `uniformity` and `alignment_by_chance`.

    Args:
        features: (A, S, D), A anatomies each seen in S sequences.

    Raises:
        InputError: features are not (A, S, D) with A, S >= 2, or not finite.

    Examples:
        Of the first anatomy both sequences agree, of the second they are orthogonal:

        >>> alignment_by_anatomy(np.array([[[1.0, 0.0], [5.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])).round(9).tolist()
        [0.0, 2.0]
    """
    unit = unit_rows(features)
    first, second = np.triu_indices(unit.shape[1], k=1)
    per_anatomy: NDArray[np.float64] = ((unit[:, first] - unit[:, second]) ** 2).sum(axis=-1).mean(axis=1)
    return per_anatomy


def alignment_by_chance(features: Array) -> float:
    """Return the mean of |u - v|^2 over pairs of *different* anatomies in different sequences.

    It is what alignment would be if the anatomies were paired at random; the ratio of the two says how
    much closer the same anatomy lies than another.

    Examples:
        Features of different anatomies that are orthogonal lie at a squared distance of 2:

        >>> round(alignment_by_chance(np.repeat(np.eye(4)[:, None], 3, axis=1)), 9)
        2.0
    """
    unit = unit_rows(features)
    n_anatomies, n_sequences, _ = unit.shape
    different = ~np.eye(n_anatomies, dtype=bool)
    means = [
        _squared_distances(unit[:, s], unit[:, t])[different].mean()
        for s in range(n_sequences)
        for t in range(s + 1, n_sequences)
    ]
    return float(np.mean(means))


def uniformity(features: Array) -> float:
    """Return log of the mean of exp(-2 |u - v|^2) over pairs of anatomies; lower is more spread out.

    0 means that all features collapsed to one point; two opposite points give -8. As in the authors' code it
    is taken within each view, here each sequence, and averaged over them.

    Args:
        features: (A, S, D).

    Raises:
        InputError: fewer than two anatomies, or features that are not finite.

    Examples:
        >>> round(uniformity(np.array([[[1.0, 0.0]], [[-1.0, 0.0]]])), 6), round(uniformity(np.ones((4, 2, 3))), 6)
        (-8.0, 0.0)
    """
    pairs = potentials(features)
    n_anatomies = pairs.shape[1]
    mean = pairs.sum(axis=(1, 2)) / (n_anatomies * (n_anatomies - 1))
    return float(np.log(mean).mean())


def potentials(features: Array) -> NDArray[np.float64]:
    """Return exp(-2 |u - v|^2) for the anatomies of each sequence, (S, A, A), 0 on the diagonal.

    Examples:
        exp(-4) = 0.0183 for orthogonal features:

        >>> potentials(np.eye(2)[:, None]).round(4).tolist()
        [[[0.0, 0.0183], [0.0183, 0.0]]]
    """
    unit = unit_rows(features, min_sequences=1)
    pairs = np.stack([np.exp(-_SHARPNESS * _squared_distances(unit[:, s], unit[:, s])) for s in range(unit.shape[1])])
    diagonal = np.arange(unit.shape[0])
    pairs[:, diagonal, diagonal] = 0
    return pairs


def _squared_distances(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the squared distances of all rows of two (A, D) arrays, (A, A), without forming differences."""
    squares = (u * u).sum(axis=1)[:, None] + (v * v).sum(axis=1)[None] - 2 * u @ v.T
    clipped: NDArray[np.float64] = squares.clip(min=0)
    return clipped
