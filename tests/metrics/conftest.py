from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def features() -> NDArray[np.float64]:
    """(A, S, D) = (12, 3, 5): a part that follows anatomy, an offset of each sequence, and noise."""
    rng = np.random.default_rng(3)
    anatomy, sequence, noise = (rng.normal(size=shape) for shape in ((12, 1, 5), (1, 3, 5), (12, 3, 5)))
    return np.asarray(anatomy + 0.4 * sequence + 0.5 * noise)


@pytest.fixture
def subjects() -> list[str]:
    """The subject of each of the 12 anatomies: six subjects with two each."""
    return [f"sub-{k // 2:03d}" for k in range(12)]
