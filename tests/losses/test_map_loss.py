from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import MapLoss

SIZE = (3, 4, 2)


def random_case(n: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Maps found, true maps, and a head of some voxels."""
    found, true = torch.randn(n, 4, *SIZE, dtype=dtype), torch.randn(n, 4, *SIZE, dtype=dtype)
    return found, true, torch.rand(n, 1, *SIZE) < 0.6


def naive(found: Tensor, true: Tensor, mask: Tensor, scale: Tensor | None, **weights: Any) -> dict[str, float]:
    """Voxel by voxel and pair by pair."""
    outside, per_map = weights["background_weight"], weights["map_weights"]
    d = (found - true).numpy()
    w = np.where(mask[:, 0].numpy(), 1.0, outside)
    voxels = list(product(*map(range, SIZE)))
    pairs = [
        (a, b)
        for axis in range(3)
        for a in voxels
        for b in [tuple(v + (k == axis) for k, v in enumerate(a))]
        if b in voxels
    ]
    fits, gradients, values = [], [], []
    for n, c in product(range(len(d)), range(4)):
        fit = [abs(d[n, c][i]) for i in voxels]
        if scale is not None:
            b = scale[n, c].exp().numpy()
            fit = [abs(d[n, c][i]) / b[i] + math.log(2 * b[i]) for i in voxels]
        here = [w[n][i] for i in voxels]
        both = [min(w[n][i], w[n][j]) for i, j in pairs]
        steps = [abs(d[n, c][i] - d[n, c][j]) for i, j in pairs]
        values.append(per_map[c] * np.average([abs(d[n, c][i]) for i in voxels], weights=here))
        fits.append(per_map[c] * np.average(fit, weights=here))
        gradients.append(per_map[c] * np.average(steps, weights=both))
    share = len(d) * sum(per_map)
    fit_term, gradient = sum(fits) / share, sum(gradients) / share
    loss = fit_term + weights["gradient_weight"] * gradient
    return {"loss": loss, "maps_l1": sum(values) / share, "maps_gradient": gradient, "fit": fit_term}


@pytest.mark.parametrize("uncertain", [False, True], ids=["l1", "laplace"])
def test_is_that_of_a_loop_over_voxels_and_pairs(uncertain: bool) -> None:
    found, true, mask = random_case()
    scale = torch.randn_like(found) if uncertain else None
    weights = {"gradient_weight": 0.7, "background_weight": 0.25, "map_weights": (1.0, 2.0, 0.0, 0.5)}
    pred = {"maps": found} if scale is None else {"maps": found, "log_scale": scale}
    terms = MapLoss(**weights)(pred, {"maps": true, "mask": mask})
    expected = naive(found, true, mask, scale, **weights)
    expected["maps_laplace" if uncertain else "maps_l1"] = expected.pop("fit")
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-12)
    assert [name for name, value in terms.items() if value.requires_grad] == []


@pytest.mark.parametrize("uncertain", [False, True], ids=["l1", "laplace"])
def test_gradient(uncertain: bool) -> None:
    found, true, mask = random_case(1)
    loss = MapLoss()

    def total(*outputs: Tensor) -> Tensor:
        return loss(dict(zip(("maps", "log_scale"), outputs, strict=False)), {"maps": true, "mask": mask})["loss"]

    inputs = (found, torch.randn_like(found)) if uncertain else (found,)
    assert torch.autograd.gradcheck(total, [value.requires_grad_() for value in inputs])


def test_no_weight_outside_leaves_the_head_alone() -> None:
    found, true, mask = random_case()
    loss = MapLoss(background_weight=0.0)
    elsewhere = found + 100 * ~mask
    targets = {"maps": true, "mask": mask}
    assert loss({"maps": elsewhere}, targets)["loss"].item() == pytest.approx(loss({"maps": found}, targets)["loss"])


def test_a_view_without_head_adds_nothing_and_no_nan() -> None:
    found, true, mask = random_case()
    mask[1] = False
    loss = MapLoss(background_weight=0.0)
    found.requires_grad_()
    both = loss({"maps": found}, {"maps": true, "mask": mask})["loss"]
    both.backward()
    first = loss({"maps": found[:1]}, {"maps": true[:1], "mask": mask[:1]})["loss"]
    assert both.item() == pytest.approx(first.item() / 2)
    assert found.grad is not None
    assert torch.isfinite(found.grad).all()


def test_laplace_is_least_where_the_scale_is_the_mean_error() -> None:
    found, true, mask = random_case()
    mean = (found - true).abs().mean((2, 3, 4), keepdim=True)
    loss, targets = MapLoss(0.0, 1.0), {"maps": true, "mask": mask}

    def at(factor: float) -> float:
        scale = (factor * mean).log().expand_as(found)
        return loss({"maps": found, "log_scale": scale}, targets)["loss"].item()

    assert at(1.0) == pytest.approx(1 + (2 * mean).log().mean().item())
    assert at(1.0) < min(at(0.9), at(1.1))


def test_half_precision_is_averaged_in_float32() -> None:
    found, true, mask = random_case(dtype=torch.float32)
    targets = {"maps": true, "mask": mask}
    expected = MapLoss()({"maps": found.bfloat16().float()}, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = MapLoss()({"maps": found.bfloat16()}, targets)
    assert {value.dtype for value in terms.values()} == {torch.float32}
    assert terms == expected


def test_refuses_what_does_not_fit() -> None:
    found, true, mask = random_case()
    with pytest.raises(InputError, match=r"maps: found of shape \(2, 4, 3, 4, 2\), true of \(2, 4, 3, 4, 1\)"):
        MapLoss()({"maps": found}, {"maps": true[..., :1], "mask": mask})
    with pytest.raises(InputError, match="for 3 map_weights"):
        MapLoss(map_weights=(1, 1, 1))({"maps": found}, {"maps": true, "mask": mask})
    for wrong in ({"map_weights": (0, 0, 0, 0)}, {"gradient_weight": -1}, {"background_weight": -0.1}):
        with pytest.raises(InputError, match="none may be below 0, and a map must have more"):
            MapLoss(**wrong)  # type: ignore[arg-type]
