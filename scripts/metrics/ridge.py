"""Weighted ridge regression whose penalty is chosen on held-out subjects, and folds over subjects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from scripts.errors import InputError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

__all__ = ["PENALTIES", "Groups", "ridge_predict", "subject_folds"]

Groups = Sequence[str] | NDArray[np.generic]
"""One subject (or other label) per row."""

PENALTIES: Final = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Ridge penalties to choose from, in units of the number of training rows."""

_WITHOUT_CHOICE = 1.0


def ridge_predict(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    asked: NDArray[np.float64],
    groups: Groups,
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return what ridge regression predicts at ``asked``.

    Minimises sum_n w_n |y_n - b - z_n B|^2 + penalty N |B|^2, where z is x standardised over the training
    rows, the weights are scaled to a mean of one, and the intercept b is free. The penalty is the one of
    `PENALTIES` with the smallest weighted squared error on a third of the training subjects after fitting on the
    rest; 1.0 where there is only one subject.

    Args:
        x: (N, D) training features.
        y: (N, T) training targets.
        asked: (M, D) features to predict at.
        groups: (N,) subject of each training row.
        weight: (N,) weights; equal when None.

    Returns:
        (M, T).

    Examples:
        One subject, two rows, penalty 1: the slope in z is 1 / (1 + 1), half of what least squares finds.

        >>> x, y = np.array([[0.0], [2.0]]), np.array([[4.0], [6.0]])
        >>> ridge_predict(x, y, np.array([[1.0], [2.0]]), ["a", "a"]).round(3).tolist()
        [[5.0], [5.5]]
    """
    weight = np.ones(len(x)) if weight is None else weight
    fitted = _fit(x, y, weight, [_choose_penalty(x, y, groups, weight)])
    return np.asarray(fitted.predict(asked)).reshape(len(asked), -1)


def subject_folds(groups: Groups, folds: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield (train, test) row indices that share no subject; every row is tested once, nothing is random.

    Args:
        groups: (N,) subject of each row.
        folds: how many, at most one per subject.

    Raises:
        InputError: fewer than two subjects.

    Examples:
        >>> [test.tolist() for _, test in subject_folds(["a", "a", "b", "b", "b"], folds=5)]
        [[2, 3, 4], [0, 1]]
    """
    from sklearn.model_selection import GroupKFold

    n_subjects = len(np.unique(np.asarray(groups)))
    if n_subjects < 2:
        msg = f"a probe is trained and tested on different subjects, got {n_subjects}: evaluate at least 2"
        raise InputError(msg)
    yield from GroupKFold(min(folds, n_subjects)).split(np.zeros((len(groups), 1)), groups=np.asarray(groups))


def _choose_penalty(
    x: NDArray[np.float64], y: NDArray[np.float64], groups: Groups, weight: NDArray[np.float64]
) -> float:
    """Return the penalty that predicts held-out training subjects best."""
    if len(np.unique(np.asarray(groups))) < 2:
        return _WITHOUT_CHOICE
    fit, held = next(iter(subject_folds(groups, folds=3)))
    predicted = _fit(x[fit], y[fit], weight[fit], PENALTIES).predict(x[held]).reshape(len(held), len(PENALTIES), -1)
    errors = ((predicted - y[held][:, None]) ** 2).sum(axis=-1)
    return PENALTIES[int((weight[held] @ errors).argmin())]


def _fit(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64], penalties: Sequence[float]
) -> Pipeline:
    """Return a regression with a copy of the targets (N, T) for each penalty, penalty by penalty."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # weights that add up to 1 make a penalty mean the same for any number of rows
    model = make_pipeline(StandardScaler(), Ridge(np.repeat(penalties, y.shape[1])))
    return model.fit(x, np.tile(y, len(penalties)), ridge__sample_weight=weight / weight.sum())
