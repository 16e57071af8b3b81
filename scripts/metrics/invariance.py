"""Sequence invariance of features, measured in several ways and gathered in one tidy table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.metrics.arrays import Array, feature_array, to_array
from scripts.metrics.bootstrap import bootstrap_interval, bootstrap_weights, group_sums, percentile_interval
from scripts.metrics.brain_cells import Cells
from scripts.metrics.probes import (
    TissuePrediction,
    balanced_accuracy,
    predict_tissue,
    r_squared,
    sequence_probe_hits,
    squared_errors,
)
from scripts.metrics.retrieval import retrieval_hits
from scripts.metrics.sphere import alignment_by_anatomy, alignment_by_chance, potentials, uniformity

__all__ = ["COLUMNS", "invariance_table"]

COLUMNS = ("metric", "level", "value", "low", "high", "chance", "better", "n")

_RESAMPLES = 1000

Row = tuple[str, float, tuple[float, float], float, str]


def invariance_table(
    pooled: Array,
    dense: Cells | None = None,
    *,
    subjects: Sequence[str],
    sequences: Sequence[str],
    tissue: Array | None = None,
) -> pd.DataFrame:
    """Return all measures of invariance, on pooled features and on dense ones, with 95 % intervals.

    The intervals come from resampling subjects with the galleries and the fitted probes held fixed.
    ``chance`` is what features without information score: 1 / A for retrieval, the distance of randomly
    paired anatomies for alignment, 0 (collapse) for uniformity, 1 / S for the sequence probe, 1 / tissues
    for the tissue probe and 0 for its R^2.

    Args:
        pooled: (A, S, D), one vector per anatomy and sequence.
        dense: cells of feature maps; retrieval then looks for the same cell among all cells.
        subjects: (A,) subject of each anatomy.
        sequences: (S,) names.
        tissue: (A, T) tissue fractions of each anatomy (patch); adds the tissue probe to the pooled level.

    Returns:
        A table with the columns metric, level ("pooled", "dense"), value, low, high, chance, better
        ("higher", "lower") and n (anatomies or cells).

    Raises:
        InputError: shapes that do not fit, features that are not finite, or too few subjects or sequences.

    Examples:
        An encoder that tells anatomies apart and sequences not:

        >>> features = np.repeat(np.eye(4)[:, None], 3, axis=1)
        >>> table = invariance_table(features, subjects=list("abcd"), sequences=["mprage", "fse", "flair"])
        >>> table[["metric", "value", "chance"]].round(3).values.tolist()[:2]
        [['retrieval_top1', 1.0, 0.25], ['alignment', 0.0, 2.0]]
    """
    mix = None if tissue is None else to_array(tissue)
    levels = {"pooled": Cells(feature_array(pooled), np.asarray(subjects), mix)}
    if dense is not None:
        levels["dense"] = dense
    rows = []
    for level, cells in levels.items():
        n, s, _ = cells.features.shape
        if len(cells.subjects) != n or len(sequences) != s:
            msg = f"{level} features of shape {cells.features.shape} need {n} subjects and {s} sequence names"
            raise InputError(f"{msg}, got {len(cells.subjects)} and {len(sequences)}")
        for name, value, interval, chance, better in (*_measures(cells), *_probes(cells)):
            rows.append((name, level, value, *interval, chance, better, n))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _measures(cells: Cells) -> Iterator[Row]:
    """Yield the rows that need no training: retrieval, alignment and uniformity."""
    features, subjects = cells.features, cells.subjects
    hits = np.nanmean(retrieval_hits(features), axis=(1, 2))
    yield "retrieval_top1", float(hits.mean()), _interval(hits, subjects), 1 / len(features), "higher"
    distance, chance = alignment_by_anatomy(features), alignment_by_chance(features)
    yield "alignment", float(distance.mean()), _interval(distance, subjects), chance, "lower"
    pairs, counts = potentials(features), 1 - np.eye(len(features))
    weights = _weights(subjects)
    energy = [_pair_sums(sequence, subjects, weights) for sequence in pairs]
    with np.errstate(invalid="ignore"):  # a draw of one anatomy alone has no pairs, hence NaN
        draws = np.log(np.stack(energy) / _pair_sums(counts, subjects, weights)).mean(axis=0)
    spread = percentile_interval(draws, n_groups=weights.shape[1])
    yield "uniformity", uniformity(features), spread, 0.0, "lower"


def _probes(cells: Cells) -> Iterator[Row]:
    """Yield the rows of the linear probes for the sequence and, where tissue is known, for the tissue mix."""
    n, s, _ = cells.features.shape
    named = sequence_probe_hits(cells.features, cells.subjects).mean(axis=1)
    yield "sequence_probe", float(named.mean()), _interval(named, cells.subjects), 1 / s, "lower"
    if cells.tissue is None:
        return
    subjects = np.repeat(cells.subjects, s)
    data = (cells.features.reshape(n * s, -1), np.repeat(cells.tissue, s, axis=0), subjects)
    for across, suffix in ((False, ""), (True, "_across_sequences")):
        said = predict_tissue(*data, np.tile(np.arange(s), n), across_sequences=across)
        weights = _weights(said.subject)
        accuracy, chance = balanced_accuracy(said), 1 / max(len(said.tissues()), 1)
        low_high = percentile_interval(_accuracy_draws(said, weights), n_groups=weights.shape[1])
        yield f"tissue_probe{suffix}", accuracy, low_high, chance, "higher"
        sums = group_sums(squared_errors(said), said.subject)
        low_high = percentile_interval(r_squared(weights @ sums), n_groups=weights.shape[1])
        yield f"tissue_r2{suffix}", float(r_squared(sums.sum(axis=0))), low_high, 0.0, "higher"


def _interval(values: NDArray[np.float64], subjects: NDArray[np.generic]) -> tuple[float, float]:
    return bootstrap_interval(values, subjects, resamples=_RESAMPLES)


def _weights(subjects: NDArray[np.generic]) -> NDArray[np.float64]:
    return bootstrap_weights(len(np.unique(subjects)), resamples=_RESAMPLES)


def _pair_sums(
    pairs: NDArray[np.float64], subjects: NDArray[np.generic], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of pairs (A, A) in each draw, (R,), a pair counting as often as its two subjects do."""
    by_subject = group_sums(group_sums(pairs, subjects).T, subjects)
    total: NDArray[np.float64] = np.einsum("rg,gh,rh->r", weights, by_subject, weights)
    return total


def _accuracy_draws(said: TissuePrediction, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the balanced accuracy in each draw, (R,); NaN in draws that lack one of the scored tissues."""
    labels = said.tissues()
    if len(labels) < 2:
        return np.full(len(weights), np.nan)
    members = (said.tissue[:, None] == labels).astype(np.float64)
    counts = weights @ group_sums(members, said.subject)
    hits = weights @ group_sums(members * (said.tissue == said.named)[:, None], said.subject)
    recall = np.divide(hits, counts, out=np.full_like(hits, np.nan), where=counts > 0)
    accuracy: NDArray[np.float64] = recall.mean(axis=1)
    return accuracy
