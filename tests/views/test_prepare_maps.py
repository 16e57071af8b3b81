"""Views with the maps that they show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

from scripts.physics.fields import evaluate_bspline
from scripts.views import ViewGenerator
from scripts.views.map_targets import MAP_CLIP, restore_maps, standardise_maps
from scripts.views.prepare_maps import PrepareMapViews

PATCH = 24


def test_maps_are_looked_up_where_each_voxel_came_from(maps: Tensor) -> None:
    views = ViewGenerator("seqinv", PATCH)
    made = views(maps, step=3, with_maps=True)
    where = evaluate_bspline(made["params"].control, (PATCH,) * 3)
    for row, channel in [(0, 0), (2, 3), (4, 1), (5, 2)]:
        volume = maps[row % len(maps), channel].double().numpy()
        expected = map_coordinates(volume, where[row].movedim(-1, 0).numpy(), order=1, mode="constant")
        inside = ((where[row] > 0.5) & (where[row] < views.region_size - 1.5)).all(-1).numpy()
        found = made["maps"][row, channel].numpy()
        np.testing.assert_allclose(found[inside], expected[inside], atol=2e-3 * volume.max())


@pytest.mark.parametrize("mode", ["base", "seqinv"])
def test_they_change_nothing_of_the_views(maps: Tensor, mode: str) -> None:
    views = ViewGenerator(mode, PATCH, n_views=3)  # type: ignore[arg-type]
    without, made = views(maps, step=1), views(maps.half().float(), step=1, with_maps=True)
    assert "maps" not in without
    same = views(maps, step=1, with_maps=True)
    for name in ("image", "target", "mask"):
        assert torch.equal(without[name], same[name])
    assert made["maps"].shape == (9, 4, PATCH, PATCH, PATCH)
    half = views.warp(maps.half(), same["params"])
    torch.testing.assert_close(half, made["maps"], rtol=1e-5, atol=1e-4)


def test_targets_of_a_batch(maps: Tensor) -> None:
    views = ViewGenerator("seqinv", PATCH)
    image, targets = PrepareMapViews(views)({"maps": maps, "step": torch.tensor([5, 5, 5])}, "cpu")
    made = views(maps, step=5, with_maps=True)
    assert torch.equal(image, made["image"])
    assert torch.equal(targets["target"], made["target"])
    assert torch.equal(targets["mask"], made["maps"][:, :1] > 0)
    assert 0.2 < targets["mask"].float().mean() < 1
    head = targets["mask"].expand(-1, 4, -1, -1, -1)
    restored = restore_maps(targets["maps"])[head]
    unclipped = targets["maps"][head].abs() < MAP_CLIP
    torch.testing.assert_close(restored[unclipped], made["maps"][head][unclipped], rtol=1e-4, atol=1e-4)
    other, _ = PrepareMapViews(views, seed=7)({"maps": maps, "step": torch.tensor([5, 5, 5])}, "cpu")
    assert not torch.equal(image, other)


def test_targets_are_of_the_size_of_one_within_a_brain(maps: Tensor) -> None:
    brain = maps.movedim(1, -1)[maps[:, 0] > 0]
    values = standardise_maps(brain)
    assert (values.mean(0).abs() < 1).all()
    assert ((values.std(0) > 0.4) & (values.std(0) < 1.5)).all()
    assert standardise_maps(torch.tensor([[0.0, 50.0, 300.0, 0.0]])).abs().max() == MAP_CLIP
