"""Weighted ridge regression whose penalty is chosen on held-out subjects, and folds over subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError

__all__ = ["PENALTIES", "Groups", "ridge_predict", "subject_folds"]

Groups = Sequence[str] | NDArray[np.generic]
"""One subject (or other label) per row."""

PENALTIES: Final = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Ridge penalties to choose from, in units of the number of training rows."""


def ridge_predict(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    asked: NDArray[np.float64],
    groups: Groups,
    *,
    weight: NDArray[np.float64] | None = None,
    penalty: float | None = None,
) -> NDArray[np.float64]:
    """Return what ridge regression predicts at ``asked``.

    Minimises sum_n w_n |y_n - b - z_n B|^2 + penalty N |B|^2, where z is x standardised over the training
    rows, the weights are scaled to a mean of one, and the intercept b is free.

    Args:
        x: (N, D) training features.
        y: (N, T) training targets.
        asked: (M, D) features to predict at.
        groups: (N,) subject of each training row.
        weight: (N,) weights; equal when None.
        penalty: None takes the one of `PENALTIES` with the smallest weighted squared error on a third of the
            training subjects after fitting on the rest (1.0 when there is only one subject).

    Returns:
        (M, T).
    """
    weight = np.ones(len(x)) if weight is None else weight
    if penalty is None:
        penalty = _choose_penalty(x, y, groups, weight)
    return _solve(x, y, asked, weight, (penalty,))[0]


def subject_folds(groups: Groups, n_rows: int, folds: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (train, test) row indices that share no subject; every row is tested once, nothing is random.

    Raises:
        InputError: not one group per row, or fewer than two subjects.
    """
    from sklearn.model_selection import GroupKFold

    if len(groups) != n_rows:
        msg = f"a probe needs one subject per row, got {len(groups)} for {n_rows} rows"
        raise InputError(msg)
    n_subjects = len(np.unique(np.asarray(groups)))
    if n_subjects < 2:
        msg = f"a probe is trained and tested on different subjects, got {n_subjects}: evaluate at least 2"
        raise InputError(msg)
    yield from GroupKFold(min(folds, n_subjects)).split(np.zeros((n_rows, 1)), groups=np.asarray(groups))


def _choose_penalty(
    x: NDArray[np.float64], y: NDArray[np.float64], groups: Groups, weight: NDArray[np.float64]
) -> float:
    """Return the penalty that predicts held-out training subjects best."""
    if len(np.unique(np.asarray(groups))) < 2:
        return 1.0
    fit, held = next(iter(subject_folds(groups, len(x), folds=3)))
    errors = (_solve(x[fit], y[fit], x[held], weight[fit], PENALTIES) - y[held]) ** 2
    return PENALTIES[int((errors.sum(axis=-1) @ weight[held]).argmin())]


def _solve(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    asked: NDArray[np.float64],
    weight: NDArray[np.float64],
    penalties: Sequence[float],
) -> NDArray[np.float64]:
    """Return the predictions at ``asked`` for each penalty, (P, M, T)."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    scale = np.divide(1, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    weight = weight / weight.sum()
    z = (x - mean) * scale
    centre, target = weight @ z, weight @ y
    z = z - centre
    weighted = z * weight[:, None]
    gram, moment = weighted.T @ z, weighted.T @ (y - target)
    identity = np.eye(len(gram))
    slopes = np.stack([np.linalg.solve(gram + penalty * identity, moment) for penalty in penalties])
    predicted: NDArray[np.float64] = ((asked - mean) * scale - centre) @ slopes + target
    return predicted
