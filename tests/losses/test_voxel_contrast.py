from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.losses import JointLoss, MapLoss, NTXentLoss, VoxelContrast

Targets = dict[str, Tensor]


def random_case(
    n_views: int, batch: int = 2, places: int = 5, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Targets]:
    """Embeddings at places on a grid of 2 voxels, some near each other, and one that is not valid."""
    z = torch.randn(n_views * batch, places, 3, dtype=dtype)
    cells = torch.stack([torch.randperm(27)[:places] for _ in range(batch)])
    position = 2.0 * torch.stack([cells // 9, cells // 3 % 3, cells % 3], -1) + 0.5
    valid = torch.ones(batch, places, dtype=torch.bool)
    valid[-1, -1] = False
    return z, {"position": position, "valid": valid}


def naive(z: Tensor, targets: Targets, n_views: int, t: float, reach: float) -> float:
    """Anchor by anchor."""
    position, valid = targets["position"].numpy(), targets["valid"].numpy()
    batch, places = valid.shape
    unit = (z / z.norm(dim=-1, keepdim=True)).numpy().reshape(n_views, batch, places, -1)
    per_anatomy = []
    for b in range(batch):
        losses = []
        for v in range(n_views):
            for w in range(n_views):
                for k in range(places):
                    if v == w or not valid[b, k]:
                        continue
                    alike = math.exp(unit[v, b, k] @ unit[w, b, k] / t)
                    others = sum(
                        math.exp(unit[v, b, k] @ unit[view, b, j] / t)
                        for view in (v, w)
                        for j in range(places)
                        if valid[b, j] and np.linalg.norm(position[b, j] - position[b, k]) > reach
                    )
                    losses.append(-math.log(alike / (alike + others)))
        per_anatomy.append(np.mean(losses))
    return float(np.mean(per_anatomy))


@pytest.mark.parametrize("n_views", [2, 4])
def test_is_that_of_a_loop_over_anchors(n_views: int) -> None:
    z, targets = random_case(n_views)
    loss = VoxelContrast(0.5, n_views, exclusion=4.5, spacing=2.0)
    expected = naive(z, targets, n_views, 0.5, 2.25)
    assert expected != pytest.approx(naive(z, targets, n_views, 0.5, 0.0), rel=1e-3)  # some places are near
    assert loss({"decoder_2": z}, targets).item() == pytest.approx(expected, rel=1e-10)
    coarse = loss({"encoder_4": z}, targets).item()  # neighbours within a cell are not told apart
    assert coarse == pytest.approx(naive(z, targets, n_views, 0.5, 4.0), rel=1e-10)
    assert coarse != pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("n_views", [2, 3])
def test_gradient(n_views: int) -> None:
    z, targets = random_case(n_views)
    loss = VoxelContrast(n_views=n_views, exclusion=2.5)
    assert torch.autograd.gradcheck(lambda z: loss({"decoder_2": z}, targets), (z.requires_grad_(),))


def test_levels_and_anatomies_count_the_same() -> None:
    z, targets = random_case(2)
    loss = VoxelContrast()
    alone = [
        loss(
            {"decoder_2": z[b::2]},
            {name: each[b : b + 1] for name, each in targets.items()},
        ).item()
        for b in range(2)
    ]
    assert loss({"decoder_2": z}, targets).item() == pytest.approx(np.mean(alone))
    other = torch.randn_like(z)
    of_each = [loss({"decoder_2": value}, targets).item() for value in (z, other)]
    assert loss({"decoder_2": z, "encoder_2": other}, targets).item() == pytest.approx(np.mean(of_each))


def test_with_nothing_to_be_told_from_it_is_0_without_nan() -> None:
    z, targets = random_case(2)
    near = VoxelContrast(exclusion=100.0)
    targets["valid"][1] = False
    z.requires_grad_()
    loss = near({"decoder_2": z}, targets)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_float32_under_autocast() -> None:
    z, targets = random_case(2, dtype=torch.float32)
    expected = VoxelContrast()({"decoder_2": z.bfloat16().float()}, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = VoxelContrast()({"decoder_2": z.bfloat16()}, targets)
    assert found.dtype == torch.float32
    assert found == expected


def test_refuses_what_does_not_fit() -> None:
    z, targets = random_case(2)
    with pytest.raises(InputError, match=r"shape \(4, 5, 3\) are not 3 views of \(2, 5\) places"):
        VoxelContrast(n_views=3)({"decoder_2": z}, targets)
    for wrong in ({"temperature": 0}, {"spacing": 0}, {"exclusion": -1}):
        with pytest.raises(InputError, match="the first two must be positive"):
            VoxelContrast(**wrong)
    with pytest.raises(InputError, match="needs 2 or more, got 1"):
        VoxelContrast(n_views=1)


class TestJointLoss:
    def test_sums_its_objectives_by_their_weights(self) -> None:
        z, targets = random_case(2)
        maps, mask, embedding = torch.randn(4, 4, 2, 2, 2), torch.rand(4, 1, 2, 2, 2) < 0.5, torch.randn(4, 3)
        pred = {"maps": maps.requires_grad_(), "voxels": {"decoder_2": z}, "embedding": embedding}
        wanted = {**targets, "maps": torch.randn_like(maps), "mask": mask}
        weights = {"maps_weight": 2.0, "voxels_weight": 0.5, "contrastive_weight": 0.1}
        found = JointLoss(MapLoss(), VoxelContrast(), NTXentLoss(), **weights)(pred, wanted)
        parts = [MapLoss()(pred, wanted)["loss"], VoxelContrast()(pred["voxels"], targets), NTXentLoss()(embedding)]
        expected = 2.0 * parts[0] + 0.5 * parts[1] + 0.1 * parts[2]
        assert found["loss"].item() == pytest.approx(expected.item())
        assert found["voxels"].item() == pytest.approx(parts[1].item())
        assert found["contrastive"].item() == pytest.approx(parts[2].item())
        assert [name for name, value in found.items() if value.requires_grad] == ["loss"]

    def test_needs_an_objective(self) -> None:
        with pytest.raises(InputError, match="there is no objective"):
            JointLoss()
