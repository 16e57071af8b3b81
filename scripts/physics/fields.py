"""Smooth random fields: uniform cubic B-splines on a coarse grid of control points."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from scripts.errors import InputError

__all__ = ["bspline_basis", "draw_field", "evaluate_bspline", "greville", "multiplicative_field"]


def bspline_basis(
    size: int, n_control: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the uniform cubic B-spline basis at ``size`` equally spaced points, both ends included.

    The points span the ``n_control`` - 3 intervals on which the basis is complete: each row sums to 1, and
    the coefficients `greville` reproduce the coordinate. The result is shared between callers; do not change
    it.

    Args:
        size: number of points.
        n_control: number of control points, at least 4.
        device: where the result lives.
        dtype: its floating type.

    Returns:
        (size, n_control); four entries of a row are not 0.

    Raises:
        InputError: if there are fewer than 4 control points or no point.

    Examples:
        On a knot the cubic B-spline weighs its neighbours with 1/6, 4/6 and 1/6:

        >>> (6 * bspline_basis(2, 4)).round(decimals=4).tolist()
        [[1.0, 4.0, 1.0, 0.0], [0.0, 1.0, 4.0, 1.0]]
    """
    if n_control < 4 or size < 1:
        raise InputError(f"B-spline: {n_control} control points for {size} points; give at least 4 for at least 1")
    return _basis(size, n_control, torch.device(device), dtype)


def greville(n_control: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the abscissae of the control points where the field spans -1 to 1; the outer two lie beyond.

    Returns:
        (n_control,); as coefficients they give linspace(-1, 1, size).

    Examples:
        >>> greville(5).tolist()
        [-2.0, -1.0, 0.0, 1.0, 2.0]
        >>> (bspline_basis(5, 5) @ greville(5)).round(decimals=4).tolist()
        [-1.0, -0.5, 0.0, 0.5, 1.0]
    """
    index = torch.arange(n_control, device=device, dtype=torch.float64)
    return (2 * (index - 1) / (n_control - 3) - 1).to(dtype)


def evaluate_bspline(coefficients: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return the tensor-product cubic B-spline on a grid that spans the control points' complete intervals.

    Args:
        coefficients: (N, n1, n2, n3, C), at least 4 control points along each axis.
        size: (I, J, K), the grid.

    Returns:
        (N, I, J, K, C), contiguous.

    Examples:
        Where only one control point of 7 along each axis is 1, its voxel holds (4/6)^3 = 8/27 = 0.296:

        >>> coefficients = torch.zeros(1, 7, 7, 7, 1)
        >>> coefficients[0, 3, 3, 3] = 1
        >>> round(evaluate_bspline(coefficients, (5, 5, 5))[0, 2, 2, 2].item(), 3)
        0.296
    """
    n, n1, n2, n3, channels = coefficients.shape
    rows, columns, slices = (
        bspline_basis(s, c, device=coefficients.device, dtype=coefficients.dtype)
        for s, c in zip(size, (n1, n2, n3), strict=True)
    )
    # The axis that varies slowest goes last: all the work is then one product with long contiguous rows.
    lines = slices @ coefficients.reshape(n * n1 * n2, n3, channels)
    planes = columns @ lines.reshape(n * n1, n2, -1)
    volume = rows @ planes.reshape(n, n1, -1)
    return volume.view(n, *size, channels)


def draw_field(
    n: int,
    n_control: int | tuple[int, int, int],
    strength: float | Tensor,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the control points of ``n`` random log-fields, each ~ N(0, strength^2).

    Args:
        n: number of fields.
        n_control: control points along each axis, at least 4.
        strength: standard deviation of the coefficients, a number or (n,).
        generator: where the randomness comes from.
        device: where the result lives.

    Returns:
        (n, n1, n2, n3, 1), for `multiplicative_field`.

    Examples:
        >>> field = draw_field(2, 20, 0.3, torch.Generator().manual_seed(0))
        >>> tuple(field.shape), round(field.std().item(), 2)
        ((2, 20, 20, 20, 1), 0.3)
    """
    grid = (n_control,) * 3 if isinstance(n_control, int) else n_control
    noise = torch.randn((n, *grid, 1), generator=generator, device=generator.device).to(device)
    return noise * torch.as_tensor(strength, dtype=noise.dtype, device=device).reshape(-1, 1, 1, 1, 1)


def multiplicative_field(coefficients: Tensor, size: tuple[int, int, int]) -> Tensor:
    """Return the smooth positive fields, around 1, whose logarithms have the B-spline ``coefficients``.

    Args:
        coefficients: (N, n1, n2, n3, 1), as `draw_field` returns.
        size: (I, J, K), the grid.

    Returns:
        (N, 1, I, J, K); a receive field as it is, a transmit field likewise.

    Examples:
        >>> multiplicative_field(torch.full((1, 4, 4, 4, 1), 0.6931472), (2, 2, 1)).flatten().round(decimals=4).tolist()
        [2.0, 2.0, 2.0, 2.0]
    """
    return evaluate_bspline(coefficients, size).exp_().movedim(-1, 1)


@lru_cache(maxsize=64)
def _basis(size: int, n_control: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Made outside inference mode: a cached inference tensor would break a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        intervals = n_control - 3
        position = torch.linspace(0, intervals, size, dtype=torch.float64)
        first = position.floor().long().clamp(max=intervals - 1)
        t = position - first
        weights = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 3 * (t + t**2 - t**3) + 1, t**3], dim=1)
        basis = torch.zeros(size, n_control, dtype=torch.float64)
        basis.scatter_(1, first[:, None] + torch.arange(4), weights / 6)
        return basis.to(device, dtype)
