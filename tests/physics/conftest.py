from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from scripts.physics import flair, fse, gre, mp2rage, mprage, mprage_closed_form

Signal = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@pytest.fixture
def tissues() -> dict[str, Tensor]:
    """Grey matter, white matter, CSF and fat, float64."""
    columns = {
        "pd": [79.2, 70.0, 100.0, 64.0],
        "r1": [0.617, 0.95, 0.23, 2.7],
        "r2star": [17.0, 21.0, 2.0, 67.0],
        "mtsat": [0.9, 1.5, 0.05, 0.7],
    }
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}


def _mprage(pd: Tensor, r1: Tensor, r2star: Tensor, mtsat: Tensor, **fields: Tensor) -> Tensor:
    return mprage(pd, r1, r2star, tr=2.3, ti=0.9, tx=0.006, te=0.003, flip_angle=9, n=160, efficiency=0.96, **fields)


def _mp2rage(pd: Tensor, r1: Tensor, r2star: Tensor, mtsat: Tensor, **fields: Tensor) -> Tensor:
    times = {"tr": 6.25, "ti1": 0.8, "ti2": 2.2, "tx": 0.0058, "te": 0.0029}
    return mp2rage(pd, r1, r2star, **times, flip_angles=(4, 5), n=160, efficiency=0.96, **fields)


def _closed_form(pd: Tensor, r1: Tensor, r2star: Tensor, mtsat: Tensor, **fields: Tensor) -> Tensor:
    return mprage_closed_form(pd, r1, tr=2.3, td=0.92, tx=0.006, flip_angle=9, n=160, **fields)


_SIGNALS: dict[str, Callable[..., Tensor]] = {
    "fse": lambda pd, r1, r2star, mtsat, **fields: fse(pd, r1, r2star, te=0.1, tr=5, **fields),
    "flair": lambda pd, r1, r2star, mtsat, **fields: flair(pd, r1, r2star, te=0.1, tr=9, ti=2.2, **fields),
    "gre": lambda pd, r1, r2star, mtsat, **fields: gre(
        pd, r1, r2star, None, te=0.005, tr=0.025, flip_angle=20, **fields
    ),
    "gre_mt": lambda pd, r1, r2star, mtsat, **fields: gre(
        pd, r1, r2star, mtsat, te=0.005, tr=0.025, flip_angle=20, **fields
    ),
    "mprage": _mprage,
    "mprage_closed_form": _closed_form,
    "mp2rage": _mp2rage,
}


@pytest.fixture(params=_SIGNALS)
def signal(request: pytest.FixtureRequest) -> Callable[..., Tensor]:
    """Each signal function at a typical protocol, as f(pd, r1, r2star, mtsat, **fields); it knows its name."""
    function = _SIGNALS[request.param]
    function.__name__ = request.param
    return function
