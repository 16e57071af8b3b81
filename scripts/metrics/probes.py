"""Linear probes of frozen features: the sequence should not be readable from them, the tissue mix should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.metrics.arrays import Array, feature_array, to_array
from scripts.metrics.ridge import Groups, ridge_predict, subject_folds

__all__ = [
    "TissuePrediction",
    "balanced_accuracy",
    "predict_tissue",
    "r_squared",
    "sequence_probe_hits",
    "squared_errors",
]

_FOLDS = 5
"""Of every cross-validation over subjects; fewer where there are fewer subjects."""


def sequence_probe_hits(features: Array, groups: Groups) -> NDArray[np.float64]:
    """Return 1 where a linear probe names the sequence of a held-out feature, else 0, (A, S).

    Multinomial logistic regression on standardised features, cross-validated over subjects: no subject is
    in the training and the test part of a fold. Every sequence is equally frequent, so the mean, the accuracy,
    needs no balancing; by chance it is 1 / S, and lower is more invariant. Values below chance happen: a probe
    that learned noise is not bound to guess evenly.

    Args:
        features: (A, S, D), A anatomies each seen in S sequences.
        groups: (A,) subject of each anatomy.

    Raises:
        InputError: fewer than two subjects, or features that are not (A, S, D) or not finite.

    Examples:
        A feature that is the sequence, one-hot, and one that knows nothing of it:

        >>> named = np.broadcast_to(np.eye(3), (4, 3, 3))
        >>> float(sequence_probe_hits(named, ["a", "a", "b", "b"]).mean())
        1.0
        >>> blind = np.repeat(np.eye(4)[:, None], 3, axis=1)
        >>> float(sequence_probe_hits(blind, ["a", "a", "b", "b"]).mean().round(3))
        0.333
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    array = feature_array(features)
    n_anatomies, n_sequences, n_channels = array.shape
    hits = np.zeros((n_anatomies, n_sequences))
    for train, test in subject_folds(groups, _FOLDS):
        probe = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-3, max_iter=1000))
        probe.fit(array[train].reshape(-1, n_channels), np.tile(np.arange(n_sequences), len(train)))
        named = probe.predict(array[test].reshape(-1, n_channels)).reshape(len(test), n_sequences)
        hits[test] = named == np.arange(n_sequences)
    return hits


@dataclass(frozen=True)
class TissuePrediction:
    """What a tissue probe said about held-out rows; a row may have been asked about several times.

    Attributes:
        subject: (N,) subject of each row.
        truth: (N, T) its tissue fractions.
        predicted: (N, T) the fractions that ridge regression predicted.
        tissue: (N,) index of its dominant tissue.
        named: (N,) index of the tissue that the linear classifier named.
    """

    subject: NDArray[np.generic]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]
    tissue: NDArray[np.intp]
    named: NDArray[np.intp]

    def tissues(self) -> list[int]:
        """Return the tissues that dominate rows of at least two subjects, so that a probe can learn them.

        Examples:
            >>> mix = np.tile([[0.8, 0.2], [0.3, 0.7]], (4, 1))
            >>> predict_tissue(mix, mix, np.repeat(list("abcd"), 2), np.zeros(8), across_sequences=False).tissues()
            [0, 1]
        """
        found = np.unique(self.tissue)
        return [int(label) for label in found if len(np.unique(self.subject[self.tissue == label])) > 1]


def balanced_accuracy(said: TissuePrediction) -> float:
    """Return the mean over ``said.tissues()`` of the share of their rows named right; NaN for fewer than two.

    NaN happens with large patches, which are all mostly grey matter; by chance it is 1 / number of these tissues.

    Examples:
        >>> mix, who = np.tile([[0.8, 0.2], [0.3, 0.7]], (4, 1)), np.repeat(list("abcd"), 2)
        >>> blind = predict_tissue(np.ones((8, 1)), mix, who, np.zeros(8), across_sequences=False)
        >>> balanced_accuracy(blind)
        0.5
    """
    shares = [(said.named[said.tissue == label] == label).mean() for label in said.tissues()]
    return float(np.mean(shares)) if len(shares) > 1 else float("nan")


def squared_errors(said: TissuePrediction) -> NDArray[np.float64]:
    """Return the squared error of each prediction and the squared distance to the overall mean, (N, 2).

    Examples:
        >>> mix, who = np.tile([[0.8, 0.2], [0.3, 0.7]], (4, 1)), np.repeat(list("abcd"), 2)
        >>> blind = predict_tissue(np.ones((8, 1)), mix, who, np.zeros(8), across_sequences=False)
        >>> squared_errors(blind)[0].round(3).tolist()  # 2 * 0.25^2 both: without features the mean is predicted
        [0.125, 0.125]
    """
    error = ((said.truth - said.predicted) ** 2).sum(axis=1)
    return np.stack([error, ((said.truth - said.truth.mean(axis=0)) ** 2).sum(axis=1)], axis=1)


def r_squared(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 - error / spread for sums (..., 2) of `squared_errors`; NaN where the spread is rounding error.

    0 is predicting the means of the fractions.

    Examples:
        >>> r_squared(np.array([[1.0, 4.0], [4.0, 4.0], [0.0, 0.0]])).tolist()
        [0.75, 0.0, nan]
    """
    error, spread = sums[..., 0], sums[..., 1]
    ratio = np.divide(error, spread, out=np.full_like(spread, np.nan), where=spread > 1e-12)
    return np.asarray(1 - ratio)


def predict_tissue(
    features: Array, fractions: Array, groups: Groups, sequences: Groups, *, across_sequences: bool
) -> TissuePrediction:
    """Return what linear probes read of the tissue mix of patches or cells from the features of held-out subjects.

    Two ridge regressions on standardised features: one on the fractions, one on the indicator of the
    dominant tissue with every tissue weighted equally (a least-squares classifier). They are trained on some
    subjects and tested on others. With ``across_sequences`` they are moreover trained on one sequence alone
    and tested on all the others, each sequence taking its turn: the probe can then only succeed if tissue
    lies in the same direction of feature space whatever the sequence.

    Args:
        features: (M, D), one row per patch or cell and sequence.
        fractions: (M, T) tissue fractions; rows that sum to 0 are background and left out.
        groups: (M,) subject of each row.
        sequences: (M,) sequence of each row.
        across_sequences: train on one sequence, test on the others.

    Raises:
        InputError: lengths that differ, no tissue, fewer than two subjects, or fewer than two sequences
            where they are needed.

    Examples:
        Four subjects whose features are their tissue mix:

        >>> mix = np.tile([[0.8, 0.2], [0.3, 0.7]], (4, 1))
        >>> said = predict_tissue(mix, mix, np.repeat(list("abcd"), 2), np.zeros(8), across_sequences=False)

        >>> said.tissue.tolist() == said.named.tolist(), round(float(r_squared(squared_errors(said).sum(axis=0))), 2)
        (True, 1.0)
    """
    rows, mix = _two_dimensional(features, "features"), _two_dimensional(fractions, "fractions")
    lengths = (len(rows), len(mix), len(groups), len(sequences))
    if len(set(lengths)) > 1:
        msg = f"features, fractions, groups and sequences must have one row each, got {lengths} rows"
        raise InputError(msg)
    names, subjects = np.asarray(sequences), np.asarray(groups)
    if across_sequences and len(np.unique(names)) < 2:
        msg = "a tissue probe across sequences needs rows of 2 sequences or more: pass their names as sequences"
        raise InputError(msg)
    kept = np.flatnonzero(mix.sum(axis=1) > 0)
    if len(kept) == 0:
        msg = "no cell holds tissue, so there is nothing to probe: check that PD and R1 of the maps are right"
        raise InputError(msg)
    dominant = mix.argmax(axis=1)
    parts = []
    for train, test in subject_folds(subjects[kept], _FOLDS):
        for learn, ask in _sequence_folds(kept[train], kept[test], names, across=across_sequences):
            x, asked, who = rows[learn], rows[ask], subjects[learn]
            predicted = ridge_predict(x, mix[learn], asked, who)
            indicator = np.eye(mix.shape[1])[dominant[learn]]
            weight = 1 / indicator.sum(axis=0)[dominant[learn]]
            named = ridge_predict(x, indicator, asked, who, weight).argmax(axis=1)
            parts.append((subjects[ask], mix[ask], predicted, dominant[ask], named))
    return TissuePrediction(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _sequence_folds(
    train: NDArray[np.intp], test: NDArray[np.intp], names: NDArray[np.generic], *, across: bool
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (train, test) as they are, or, across, one sequence's training rows and the others' test rows."""
    if not across:
        yield train, test
        return
    for name in np.unique(names):
        learn, ask = train[names[train] == name], test[names[test] != name]
        if len(learn) and len(ask):
            yield learn, ask


def _two_dimensional(values: Array, name: str) -> NDArray[np.float64]:
    """Return (M, D) values as float64 after checking them."""
    array = to_array(values)
    if array.ndim != 2 or not np.isfinite(array).all():
        msg = f"{name} must be finite and have two axes, got shape {array.shape}: flatten cells into rows"
        raise InputError(msg)
    return array
