from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from scripts.errors import InputError
from scripts.physics import bspline_basis, draw_field, evaluate_bspline, greville, multiplicative_field


@pytest.mark.parametrize(("size", "n_control"), [(2, 4), (7, 4), (33, 5), (96, 9), (5, 12)])
def test_basis_is_the_uniform_cubic_bspline(size: int, n_control: int) -> None:
    basis = bspline_basis(size, n_control, dtype=torch.float64)
    knots = np.arange(-3.0, n_control + 1)
    expected = BSpline(knots, np.eye(n_control), 3)(np.linspace(0, n_control - 3, size))
    np.testing.assert_allclose(basis.numpy(), expected, atol=1e-14)
    torch.testing.assert_close(basis.sum(1), torch.ones(size, dtype=torch.float64))
    line = torch.linspace(-1, 1, size, dtype=torch.float64)
    torch.testing.assert_close(basis @ greville(n_control, dtype=torch.float64), line)


def test_evaluation_is_the_sum_over_control_points() -> None:
    generator = torch.Generator().manual_seed(0)
    coefficients = torch.randn(2, 4, 5, 6, 3, generator=generator, dtype=torch.float64)
    field = evaluate_bspline(coefficients, (7, 8, 9))
    assert field.shape == (2, 7, 8, 9, 3)
    assert field.is_contiguous()
    bases = [bspline_basis(s, c, dtype=torch.float64).numpy() for s, c in zip((7, 8, 9), (4, 5, 6), strict=True)]
    naive = np.zeros(field.shape)
    for a, b, c in np.ndindex(4, 5, 6):
        weight = bases[0][:, a, None, None] * bases[1][:, b, None] * bases[2][:, c]
        naive += weight[..., None] * coefficients[:, a, b, c].numpy()[:, None, None, None]
    np.testing.assert_allclose(field.numpy(), naive, atol=1e-12)


def test_abscissae_as_coefficients_are_the_identity_grid() -> None:
    axes = [greville(n, dtype=torch.float64) for n in (4, 6, 5)]
    grid = evaluate_bspline(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)[None], (9, 8, 7))
    lines = [torch.linspace(-1, 1, n, dtype=torch.float64) for n in (9, 8, 7)]
    torch.testing.assert_close(grid[0], torch.stack(torch.meshgrid(*lines, indexing="ij"), -1))


def test_evaluation_passes_gradients_also_after_inference_mode() -> None:
    with torch.inference_mode():
        bspline_basis(11, 5, dtype=torch.float64)
    coefficients = torch.randn(1, 5, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: evaluate_bspline(c, (11, 3, 3)), (coefficients,))


def test_drawn_fields_have_the_strength_asked_for_and_lie_around_one() -> None:
    strength = torch.tensor([0.0, 0.1, 0.4])
    coefficients = draw_field(3, 8, strength, torch.Generator().manual_seed(0))
    assert coefficients.shape == (3, 8, 8, 8, 1)
    torch.testing.assert_close(coefficients.flatten(1).std(1), strength, rtol=0.1, atol=0)
    fields = multiplicative_field(coefficients, (20, 21, 22))
    assert fields.shape == (3, 1, 20, 21, 22)
    assert (fields[0] == 1).all()
    assert (fields > 0).all()
    assert (fields.log().flatten(1).mean(1).abs() <= 4 * strength / 5**1.5).all()
    torch.testing.assert_close(fields[2, 0], evaluate_bspline(coefficients, (20, 21, 22)).exp()[2, ..., 0])
    steps = fields[2, 0].log().diff(dim=0).abs().max()
    assert steps < 0.4


def test_a_seed_repeats_its_field_and_axes_may_differ() -> None:
    first, again, other = (draw_field(2, (4, 5, 6), 0.2, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first.shape == (2, 4, 5, 6, 1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_too_few_control_points_are_refused() -> None:
    with pytest.raises(InputError, match="3 control points for 10 points; give at least 4"):
        bspline_basis(10, 3)
