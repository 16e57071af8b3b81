from __future__ import annotations

import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.metrics.tissue_mix import brain_share, tissue_fractions

R1 = {"CSF": 0.24, "GM": 0.62, "WM": 0.95}


def paint(volume: Tensor, where: tuple[slice, ...], tissue: str) -> None:
    """Set PD and R1 of a region of one volume (4, I, J, K)."""
    volume[0][where] = 80
    volume[1][where] = R1[tissue]


@pytest.fixture
def maps() -> Tensor:
    """(2, 4, 8, 8, 8): first half WM and a quarter CSF of one, GM and a background corner of the other."""
    maps = torch.zeros(2, 4, 8, 8, 8)
    paint(maps[0], (slice(0, 4), slice(None), slice(None)), "WM")
    paint(maps[0], (slice(4, 6), slice(None), slice(None)), "CSF")
    paint(maps[1], (slice(None), slice(None), slice(4, 8)), "GM")
    return maps


def test_whole_volume(maps: Tensor) -> None:
    got = tissue_fractions(maps, 1)
    torch.testing.assert_close(got[:, :, 0, 0, 0], torch.tensor([[0, 2 / 3, 1 / 3], [1, 0, 0]]))
    torch.testing.assert_close(brain_share(maps).flatten(), torch.tensor([0.75, 0.5]))


def test_cells_equal_a_naive_loop(maps: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    maps[:, 0] = (torch.rand(2, 8, 8, 8, generator=generator) > 0.4) * 75.0
    maps[:, 1] = torch.rand(2, 8, 8, 8, generator=generator) * 1.2 * (maps[:, 0] > 0)
    cells = (2, 4, 1)
    got, share = tissue_fractions(maps, cells), brain_share(maps, cells)
    for b, i, j, k in torch.cartesian_prod(*(torch.arange(n) for n in (2, *cells))).tolist():
        block = maps[b, :, 4 * i : 4 * i + 4, 2 * j : 2 * j + 2, 8 * k : 8 * k + 8].flatten(1)
        r1 = [float(value) for pd, value in zip(block[0], block[1], strict=True) if pd > 0]
        csf = sum(value < 0.4 for value in r1) / len(r1)
        white = sum(value > 0.78 for value in r1) / len(r1)
        torch.testing.assert_close(got[b, :, i, j, k], torch.tensor([1 - csf - white, white, csf]))
        assert float(share[b, i, j, k]) == pytest.approx(len(r1) / 64)


def test_cells_without_brain_are_zero_and_the_rest_sum_to_one(maps: Tensor) -> None:
    got = tissue_fractions(maps, 4)
    total, brain = got.sum(dim=1), brain_share(maps, 4) > 0
    assert set(brain.flatten().tolist()) == {True, False}
    torch.testing.assert_close(total, brain.float())


@pytest.mark.parametrize(
    ("shape", "cells", "match"),
    [
        ((4, 8, 8, 8), 1, "B, C, I, J, K"),
        ((1, 4, 8, 8, 9), 4, "do not divide"),
        ((1, 4, 8, 8, 8), 0, "divide"),
    ],
    ids=["four axes", "indivisible", "zero cells"],
)
def test_bad_input_is_refused(shape: tuple[int, ...], cells: int, match: str) -> None:
    with pytest.raises(InputError, match=match):
        tissue_fractions(torch.zeros(shape), cells)
