"""Views of one geometry, and the places that a voxel-wise loss compares in them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from scripts.errors import InputError
from scripts.views import ViewGenerator
from scripts.views.prepare_maps import PrepareMapViews
from scripts.views.prepare_voxels import PrepareVoxelViews
from scripts.views.voxel_places import draw_places

PATCH = 24


def batch_of(maps: Tensor, step: int = 4) -> dict[str, Any]:
    return {"maps": maps, "step": torch.full((len(maps),), step)}


@pytest.fixture
def views() -> ViewGenerator:
    return ViewGenerator("seqinv", PATCH, n_views=3, shared_geometry=True)


def test_views_of_an_anatomy_show_the_same_place_in_every_voxel(maps: Tensor, views: ViewGenerator) -> None:
    made = views(maps, step=2, with_maps=True)
    by_view = made["maps"].view(3, len(maps), 4, *(PATCH,) * 3)
    assert torch.equal(by_view[0], by_view[1])
    assert torch.equal(by_view[0], by_view[2])
    assert not torch.equal(by_view[0, 0], by_view[0, 1])
    names = [protocol.sequence for protocol in made["params"].protocols]
    assert all(len(set(names[b :: len(maps)])) == 3 for b in range(len(maps)))


def test_all_else_is_drawn_as_without(views: ViewGenerator) -> None:
    shared, own = views.draw(4, 7), ViewGenerator("seqinv", PATCH, n_views=3).draw(4, 7)
    assert torch.equal(shared.control[:4], own.control[:4])
    assert not torch.equal(shared.control, own.control)
    ours, theirs = shared.to_dict(), own.to_dict()
    assert {name for name in ours if ours[name] != theirs[name]} == {"affine", "control"}


def test_places_lie_in_the_head_of_what_all_views_show_each_once() -> None:
    head = torch.zeros(2, 1, 10, 10, 10, dtype=torch.bool)
    head[0, :, :6] = True
    head[1, :, :, 3:7, 3:7] = True
    first, last = torch.tensor([[2, 2, 2], [0, 1, 2]]), torch.tensor([[8, 9, 7], [6, 7, 8]])
    drawn = torch.zeros(2, 10, 10, 10)
    for seed in range(300):
        places = draw_places(head, first, last, 4, 20, torch.Generator().manual_seed(seed))
        for b in range(2):
            at = places.position[b][places.valid[b]].long()
            assert len({tuple(place) for place in at.tolist()}) == len(at) >= 8
            assert ((at >= first[b]) & (at <= last[b])).all()
            assert (at.amax(0) - at.amin(0) < 4).all()
            drawn[b][tuple(at.T)] += 1
    shown = torch.zeros(2, 10, 10, 10, dtype=torch.bool)
    shown[0, 2:6, 2:10, 2:8] = True
    shown[1, :7, 3:7, 3:7] = True
    assert torch.equal(drawn > 0, shown)


def test_without_a_limit_places_are_drawn_evenly() -> None:
    head = torch.zeros(1, 1, 4, 4, 4, dtype=torch.bool)
    head[..., :2] = True
    first, last = torch.zeros(1, 3, dtype=torch.long), torch.full((1, 3), 3)
    counts = torch.zeros(4, 4, 4)
    for seed in range(600):
        places = draw_places(head, first, last, 4, 8, torch.Generator().manual_seed(seed))
        assert places.valid.all()
        counts[tuple(places.position[0].long().T)] += 1
    expected = 600 * 8 / 32
    assert ((counts[..., :2] - expected).abs() < 5 * expected**0.5).all()
    assert not counts[..., 2:].any()


def test_where_there_is_little_or_no_head_the_rest_is_not_valid() -> None:
    head = torch.zeros(2, 1, 4, 4, 4, dtype=torch.bool)
    head[0, :, 0, 0, :2] = True
    first, last = torch.zeros(2, 3, dtype=torch.long), torch.full((2, 3), 3)
    places = draw_places(head, first, last, 4, 1000, torch.Generator().manual_seed(0))
    assert places.position.shape == (2, 64, 3)
    assert places.valid.sum(1).tolist() == [2, 0]
    assert sorted(places.position[0, :2].tolist()) == [[0, 0, 0], [0, 0, 1]]


def test_voxels_of_a_place_show_the_same_maps_in_all_views(maps: Tensor, views: ViewGenerator) -> None:
    image, targets, args, more = PrepareVoxelViews(views, 16, 50)(batch_of(maps), "cpu")
    assert image.shape == (9, 1, 16, 16, 16)
    assert args == ()
    assert {name: tuple(value.shape) for name, value in targets.items()} == {
        "target": (9, 1, 16, 16, 16),
        "maps": (9, 4, 16, 16, 16),
        "mask": (9, 1, 16, 16, 16),
        "position": (3, 50, 3),
        "valid": (3, 50),
    }
    assert targets["valid"].all()
    voxels = more["voxels"].long()
    assert ((voxels >= 0) & (voxels < 16)).all()
    rows = torch.arange(9)[:, None]
    shown = targets["maps"][rows, :, voxels[..., 0], voxels[..., 1], voxels[..., 2]].view(3, 3, 50, 4)
    assert torch.equal(shown[0], shown[1])
    assert torch.equal(shown[0], shown[2])
    assert targets["mask"][rows, 0, voxels[..., 0], voxels[..., 1], voxels[..., 2]].all()
    own = more["voxels"].view(3, 3, 50, 3)
    assert not torch.equal(own[0], own[1])  # but each view is cut out where it is
    offset = targets["position"] - own
    assert torch.equal(offset, offset[:, :, :1].expand_as(offset))
    assert 0 <= offset.min() < 3
    assert 5 < offset.max() <= PATCH - 16


def test_without_a_shift_views_and_targets_are_those_of_the_maps(maps: Tensor, views: ViewGenerator) -> None:
    image, targets, _, more = PrepareVoxelViews(views, PATCH, 50)(batch_of(maps), "cpu")
    plain, plain_targets = PrepareMapViews(views)(batch_of(maps), "cpu")
    assert torch.equal(image, plain)
    assert all(torch.equal(targets[name], value) for name, value in plain_targets.items())
    assert torch.equal(more["voxels"], targets["position"].repeat(3, 1, 1))


def test_crops_and_places_are_a_function_of_seed_and_step(maps: Tensor, views: ViewGenerator) -> None:
    def prepared(step: int, seed: int | None = None) -> tuple[Tensor, Tensor]:
        image, _, _, more = PrepareVoxelViews(views, 16, 50, seed)(batch_of(maps, step), "cpu")
        return image, more["voxels"]

    torch.manual_seed(1)
    first = prepared(4)
    torch.manual_seed(2)
    assert all(torch.equal(*both) for both in zip(prepared(4), first, strict=True))
    for other in (prepared(5), prepared(4, seed=9)):
        assert not any(torch.equal(*both) for both in zip(other, first, strict=True))


def test_refuses_what_does_not_fit(views: ViewGenerator) -> None:
    with pytest.raises(InputError, match="set shared_geometry to true"):
        PrepareVoxelViews(ViewGenerator("seqinv", PATCH), 16)
    with pytest.raises(InputError, match="crop_shift is -8: views are as wide as a patch at least"):
        PrepareVoxelViews(views, PATCH + 8)
    with pytest.raises(InputError, match="contrast_voxels is 1"):
        PrepareVoxelViews(views, 16, 1)
