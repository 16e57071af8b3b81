from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.io.resample import is_same_grid, to_grid, voxel_sizes

SHAPE = (12, 14, 10)


def volume(values: NDArray[Any], affine: NDArray[Any]) -> MetaTensor:
    return MetaTensor(torch.from_numpy(values[None]), affine=torch.from_numpy(affine))


def shifted(affine: NDArray[Any], by: tuple[float, float, float]) -> NDArray[Any]:
    """The grid whose voxel (0, 0, 0) is voxel ``by`` of another, its sides the same."""
    moved = affine.copy()
    moved[:, 3] = affine @ [*by, 1]
    return moved


@pytest.fixture
def noise(oblique: NDArray[Any]) -> MetaTensor:
    return volume(np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32), oblique)


def test_the_same_grid_gives_the_same_object(noise: MetaTensor, oblique: NDArray[Any]) -> None:
    for mode in ("nearest", "bilinear"):
        assert to_grid(noise, oblique, SHAPE, mode) is noise
        assert to_grid(noise, torch.from_numpy(oblique), list(SHAPE), mode) is noise


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)], ids=str)
@pytest.mark.parametrize("flips", list(product([False, True], repeat=3))[1:], ids=str)
def test_flips_and_permutations_are_exact(
    noise: MetaTensor, oblique: NDArray[Any], order: tuple[int, ...], flips: tuple[bool, ...], mode: Any
) -> None:
    turn = np.zeros((4, 4))  # voxel of the new grid -> voxel of the old one
    turn[3, 3] = 1
    # nearest is for labels: whole numbers
    noise = (noise * 3).round() if mode == "nearest" else noise
    wanted = noise[0].numpy().transpose(order)
    for new, old in enumerate(order):
        turn[old, new] = -1 if flips[new] else 1
        turn[old, 3] = SHAPE[old] - 1 if flips[new] else 0
        wanted = np.flip(wanted, new) if flips[new] else wanted
    found = to_grid(noise, oblique @ turn, wanted.shape, mode)
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=0 if mode == "nearest" else 2e-5)
    np.testing.assert_allclose(found.affine, oblique @ turn, atol=1e-9)


def test_a_linear_ramp_stays_itself_between_the_voxels(oblique: NDArray[Any]) -> None:
    """Trilinear interpolation is exact for a function that is linear in the world."""
    slope = np.array([0.3, -0.7, 1.1])
    ijk = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).astype(float)
    world = ijk @ oblique[:3, :3].T + oblique[:3, 3]
    ramp = volume((world @ slope).astype(np.float32), oblique)
    inner = tuple(n - 1 for n in SHAPE)
    for by in [(0.5, 0.5, 0.5), (0.5, 0, 0), (0.25, 0.75, 0.1)]:
        wanted = (world + oblique[:3, :3] @ by) @ slope
        found = to_grid(ramp, shifted(oblique, by), inner)[0].numpy()
        np.testing.assert_allclose(found, wanted[:-1, :-1, :-1], atol=2e-4)


def test_a_half_voxel_is_the_mean_of_two(noise: MetaTensor, oblique: NDArray[Any]) -> None:
    found = to_grid(noise, shifted(oblique, (0, 0.5, 0)), (12, 13, 10))[0].numpy()
    values = noise[0].numpy()
    np.testing.assert_allclose(found, (values[:, 1:] + values[:, :-1]) / 2, atol=2e-5)


def generic() -> NDArray[Any]:
    """A grid tilted against the other, coarser, that reaches out of it."""
    affine = np.diag([1.7, -1.4, 2.1, 1.0])
    affine[0, 1], affine[2, 0] = 0.3, -0.2
    affine[:3, 3] = (-6.9, 16.0, 10.3)
    return affine


def positions(shape: tuple[int, ...], wanted: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
    ijk = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    inward = np.linalg.inv(own) @ wanted
    return ijk @ inward[:3, :3].T + inward[:3, 3]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32])
def test_nearest_is_the_nearest(oblique: NDArray[Any], dtype: torch.dtype) -> None:
    labels = np.random.default_rng(3).integers(0, 4, SHAPE).astype(np.uint8)
    source = volume(labels, oblique).to(dtype)
    shape = (9, 10, 8)
    found = to_grid(source, generic(), shape, "nearest")
    assert found.dtype == dtype
    at = np.floor(positions(shape, generic(), oblique) + 0.5).astype(int)
    inside = ((at >= 0) & (at < SHAPE)).all(1)
    assert 100 < inside.sum() < len(at) - 100
    wanted = np.zeros(len(at))
    wanted[inside] = labels[tuple(at[inside].T)]
    assert np.array_equal(found[0].numpy().reshape(-1), wanted)


def test_trilinear_by_eight_neighbours_and_zero_outside(noise: MetaTensor, oblique: NDArray[Any]) -> None:
    shape = (9, 10, 8)
    found = to_grid(noise, generic(), shape)[0].numpy().reshape(-1)
    at = positions(shape, generic(), oblique)
    padded = np.pad(noise[0].numpy(), 1)
    for value, place in zip(found, at, strict=True):
        if ((place <= -1) | (place >= SHAPE)).any():
            assert value == 0
            continue
        low, wanted = np.floor(place).astype(int), 0.0
        for step in product((0, 1), repeat=3):
            share = np.prod(np.where(step, place - low, 1 - (place - low)))
            wanted += share * padded[tuple(low + step + 1)]
        assert value == pytest.approx(wanted, abs=5e-5)


def test_another_world_is_all_zero(noise: MetaTensor, oblique: NDArray[Any]) -> None:
    for mode in ("nearest", "bilinear"):
        assert not to_grid(noise, shifted(oblique, (40, 0, 0)), SHAPE, mode).any()


def test_channels_move_together(noise: MetaTensor, oblique: NDArray[Any]) -> None:
    values = noise.as_subclass(torch.Tensor)
    two = MetaTensor(torch.cat([values, -2 * values]), affine=noise.affine)
    found = to_grid(two, generic(), (9, 10, 8)).as_subclass(torch.Tensor)
    torch.testing.assert_close(found[1], -2 * found[0])
    assert found.shape == (2, 9, 10, 8)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_single_slice(oblique: NDArray[Any], mode: Any) -> None:
    """A grid of one slice, as source and as what is wanted."""
    values = (9 * np.random.default_rng(5).standard_normal((6, 5, 4))).round().astype(np.float32)
    whole = volume(values, oblique)
    slab = to_grid(whole, shifted(oblique, (0, 0, 2)), (6, 5, 1), mode)
    np.testing.assert_allclose(slab[0, :, :, 0].numpy(), values[:, :, 2], atol=1e-4)
    back = to_grid(slab, oblique, (6, 5, 4), mode)[0].numpy()
    np.testing.assert_allclose(back[:, :, 2], values[:, :, 2], atol=1e-4)
    assert not back[:, :, [0, 1, 3]].any()


def test_grids_are_compared_at_their_corners(noise: MetaTensor, oblique: NDArray[Any]) -> None:
    affine = torch.from_numpy(oblique)
    assert is_same_grid(noise, affine, SHAPE)
    assert not is_same_grid(noise, affine, (12, 14, 11))
    by = affine.clone()
    by[0, 3] += 0.05
    assert not is_same_grid(noise, by, SHAPE)
    assert is_same_grid(noise, by, SHAPE, tolerance=0.06)
    # the first corner stays, the last is off by 13 voxels times 0.01 mm
    scaled = affine.clone()
    scaled[:3, 1] *= 1 + 0.01 / 1.1
    assert is_same_grid(noise, scaled, SHAPE, tolerance=0.14)
    assert not is_same_grid(noise, scaled, SHAPE, tolerance=0.12)


def test_voxel_sizes(oblique: NDArray[Any]) -> None:
    assert voxel_sizes(oblique) == pytest.approx((0.9, 1.1, 1.6))
    assert voxel_sizes(torch.from_numpy(oblique)) == pytest.approx((0.9, 1.1, 1.6))
    assert all(isinstance(side, float) for side in voxel_sizes(oblique))
