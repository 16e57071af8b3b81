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
    "sequence_probe",
    "sequence_probe_hits",
    "squared_errors",
    "tissue_probe",
]


def sequence_probe(features: Array, groups: Groups, *, folds: int = 5, strength: float = 1.0) -> float:
    """Return how often a linear probe names the sequence of a feature; chance 1 / S, lower is more invariant.

    Multinomial logistic regression on standardised features, cross-validated over subjects: no subject is
    in the training and the test part of a fold. Every sequence is equally frequent, so this accuracy needs no
    balancing. Values below chance happen: a probe that learned noise is not bound to guess evenly.

    Args:
        features: (A, S, D), A anatomies each seen in S sequences.
        groups: (A,) subject of each anatomy.
        folds: folds of the cross-validation, at most one per subject.
        strength: inverse of the ridge penalty (C of scikit-learn).

    Raises:
        InputError: fewer than two subjects, or features that are not (A, S, D) or not finite.
    """
    return float(sequence_probe_hits(features, groups, folds=folds, strength=strength).mean())


def sequence_probe_hits(
    features: Array, groups: Groups, *, folds: int = 5, strength: float = 1.0
) -> NDArray[np.float64]:
    """Return 1 where the probe names the sequence of a held-out feature, else 0, (A, S)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    array = feature_array(features)
    n_anatomies, n_sequences, _ = array.shape
    hits = np.zeros((n_anatomies, n_sequences))
    for train, test in subject_folds(groups, n_anatomies, folds):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-3, max_iter=1000))
        probe.fit(_flat(array[train]), np.tile(np.arange(n_sequences), len(train)))
        named = probe.predict(_flat(array[test])).reshape(len(test), n_sequences)
        hits[test] = named == np.arange(n_sequences)
    return hits


@dataclass(frozen=True)
class TissuePrediction:
    """What a tissue probe said about held-out rows; a row may have been asked about several times.

    Attributes:
        row: (N,) index of the row that was asked about.
        subject: (N,) its subject.
        truth: (N, T) its tissue fractions.
        predicted: (N, T) the fractions that ridge regression predicted.
        tissue: (N,) index of its dominant tissue.
        named: (N,) index of the tissue that the linear classifier named.
    """

    row: NDArray[np.intp]
    subject: NDArray[np.generic]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]
    tissue: NDArray[np.intp]
    named: NDArray[np.intp]

    def tissues(self) -> list[int]:
        """Return the tissues that dominate rows of at least two subjects, so that a probe can learn them."""
        found = np.unique(self.tissue)
        return [int(label) for label in found if len(np.unique(self.subject[self.tissue == label])) > 1]


def tissue_probe(
    features: Array,
    fractions: Array,
    groups: Groups,
    sequences: Groups | None = None,
    *,
    across_sequences: bool = False,
    folds: int = 5,
    penalty: float | None = None,
) -> dict[str, float]:
    """Return how well a linear probe reads the tissue mix of a patch or cell from its feature.

    Two ridge regressions on standardised features: one on the fractions, one on the indicator of the
    dominant tissue with every tissue weighted equally (a least-squares classifier). They are trained on some
    subjects and tested on others. With ``across_sequences`` they are moreover trained on one sequence alone
    and tested on all the others, each sequence taking its turn: the probe can then only succeed if tissue
    lies in the same direction of feature space whatever the sequence.

    Args:
        features: (M, D), one row per patch or cell and sequence.
        fractions: (M, T) tissue fractions; rows that sum to 0 are background and left out.
        groups: (M,) subject of each row.
        sequences: (M,) sequence of each row; needed with ``across_sequences``.
        across_sequences: train on one sequence, test on the others.
        folds: folds over subjects, at most one per subject.
        penalty: of the ridge, in units of the number of training rows; None chooses it within the training
            subjects.

    Returns:
        ``balanced_accuracy`` of the dominant tissue: mean over tissues of the share of their rows that were
        named right, over the tissues that dominate rows of at least two subjects (NaN when these are fewer
        than two, as for large patches, which are all mostly grey matter). ``chance`` of it: 1 / number of
        these tissues, what always naming the majority scores. ``r2`` of the fractions, all tissues pooled; 0
        is predicting their means, NaN where they are all alike. ``n``, the number of rows.

    Raises:
        InputError: lengths that differ, no tissue, fewer than two subjects, or fewer than two sequences
            where they are needed.
    """
    said = predict_tissue(
        features,
        fractions,
        groups,
        sequences,
        across_sequences=across_sequences,
        folds=folds,
        penalty=penalty,
    )
    return {
        "balanced_accuracy": balanced_accuracy(said),
        "chance": 1 / max(len(said.tissues()), 1),
        "r2": float(r_squared(squared_errors(said).sum(axis=0))),
        "n": float(len(np.unique(said.row))),
    }


def balanced_accuracy(said: TissuePrediction) -> float:
    """Return the mean over ``said.tissues()`` of the share of their rows named right; NaN for fewer than two."""
    shares = [(said.named[said.tissue == label] == label).mean() for label in said.tissues()]
    return float(np.mean(shares)) if len(shares) > 1 else float("nan")


def squared_errors(said: TissuePrediction) -> NDArray[np.float64]:
    """Return the squared error of each prediction and the squared distance to the overall mean, (N, 2)."""
    error = ((said.truth - said.predicted) ** 2).sum(axis=1)
    return np.stack([error, ((said.truth - said.truth.mean(axis=0)) ** 2).sum(axis=1)], axis=1)


def r_squared(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 - error / spread for sums (..., 2) of `squared_errors`; NaN where the spread is rounding error."""
    error, spread = sums[..., 0], sums[..., 1]
    ratio = np.divide(error, spread, out=np.full_like(spread, np.nan), where=spread > 1e-12)
    return np.asarray(1 - ratio)


def predict_tissue(
    features: Array,
    fractions: Array,
    groups: Groups,
    sequences: Groups | None = None,
    *,
    across_sequences: bool = False,
    folds: int = 5,
    penalty: float | None = None,
) -> TissuePrediction:
    """Return the held-out predictions behind `tissue_probe`, which documents the arguments."""
    rows, mix = _two_dimensional(features, "features"), _two_dimensional(fractions, "fractions")
    names = np.zeros(len(rows), dtype=np.intp) if sequences is None else np.asarray(sequences)
    if not len(rows) == len(mix) == len(groups) == len(names):
        lengths = (len(rows), len(mix), len(groups), len(names))
        msg = f"features, fractions, groups and sequences must have one row each, got {lengths} rows"
        raise InputError(msg)
    if across_sequences and len(np.unique(names)) < 2:
        msg = "a tissue probe across sequences needs rows of 2 sequences or more: pass their names as sequences"
        raise InputError(msg)
    kept = np.flatnonzero(mix.sum(axis=1) > 0)
    if len(kept) == 0:
        msg = "no cell holds tissue, so there is nothing to probe: check that PD and R1 of the maps are right"
        raise InputError(msg)
    dominant, subjects = mix.argmax(axis=1), np.asarray(groups)
    parts = []
    for train, test in subject_folds(subjects[kept], len(kept), folds):
        for learn, ask in _sequence_folds(kept[train], kept[test], names, across=across_sequences):
            x, asked, who = rows[learn], rows[ask], subjects[learn]
            predicted = ridge_predict(x, mix[learn], asked, who, penalty=penalty)
            indicator, weight = np.eye(mix.shape[1])[dominant[learn]], _balanced_weights(dominant[learn])
            named = ridge_predict(x, indicator, asked, who, weight=weight, penalty=penalty).argmax(axis=1)
            parts.append(TissuePrediction(ask, subjects[ask], mix[ask], predicted, dominant[ask], named))
    return TissuePrediction(*(np.concatenate(columns) for columns in zip(*map(_columns, parts), strict=True)))


def _columns(said: TissuePrediction) -> tuple[NDArray[np.generic], ...]:
    """Return the arrays of a prediction in order."""
    return said.row, said.subject, said.truth, said.predicted, said.tissue, said.named


def _balanced_weights(labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return weights (N,) that give every label present the same total."""
    _, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1.0 / counts[index]


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


def _flat(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (A, S, D) as (A * S, D)."""
    return array.reshape(-1, array.shape[-1])


def _two_dimensional(values: Array, name: str) -> NDArray[np.float64]:
    """Return (M, D) values as float64 after checking them."""
    array = to_array(values)
    if array.ndim != 2 or not np.isfinite(array).all():
        msg = f"{name} must be finite and have two axes, got shape {array.shape}: flatten cells into rows"
        raise InputError(msg)
    return array
