"""Tensors and arrays alike, checked and turned into float64 arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from scripts.errors import InputError

__all__ = ["Array", "feature_array", "to_array"]

Array = Tensor | NDArray[np.floating]


def to_array(values: Array) -> NDArray[np.float64]:
    """Return a tensor (of any device and type) or array as a float64 array.

    Examples:
        >>> to_array(Tensor([0.5]))
        array([0.5])
    """
    return np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values, np.float64)


def feature_array(features: Array, *, min_sequences: int = 2) -> NDArray[np.float64]:
    """Return (A, S, D) features as a float64 array after checking them.

    Raises:
        InputError: not three axes, fewer than two anatomies or ``min_sequences`` sequences, or NaN or Inf.

    Examples:
        >>> feature_array(np.zeros((2, 3, 4), np.float32)).dtype
        dtype('float64')
    """
    array = to_array(features)
    if array.ndim != 3 or array.shape[0] < 2 or array.shape[1] < min_sequences or array.shape[2] < 1:
        msg = (
            f"features must be (anatomies >= 2, sequences >= {min_sequences}, channels), "
            f"got shape {tuple(array.shape)}: evaluate more anatomies or sequences"
        )
        raise InputError(msg)
    if not np.isfinite(array).all():
        bad = np.count_nonzero(~np.isfinite(array))
        msg = f"{bad} feature values are NaN or Inf: check the encoder's weights"
        raise InputError(msg)
    return array
