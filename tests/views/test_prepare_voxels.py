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


def test_places_lie_in_the_head_each_once_and_evenly() -> None:
    head = torch.zeros(2, 1, 8, 8, 8, dtype=torch.bool)
    head[0, :, :4] = True
    head[1, :, :, 2:6, 2:6] = True
    counts = torch.zeros(2, 64)
    for seed in range(400):
        places = draw_places(head, 2, 12, torch.Generator().manual_seed(seed))
        assert places.valid.all()
        assert all(len(set(row.tolist())) == 12 for row in places.index)
        at = places.position.round().long()  # of a cell's centre, between two voxels
        assert head[torch.arange(2)[:, None], 0, at[..., 0], at[..., 1], at[..., 2]].all()
        counts.scatter_add_(1, places.index, torch.ones(2, 12))
    for row, cells in zip(counts, (32, 16), strict=True):
        drawn = row[row > 0]
        expected = 400 * 12 / cells
        assert len(drawn) == cells
        assert ((drawn - expected).abs() < 5 * expected**0.5).all()


def test_where_the_head_is_small_the_rest_is_not_valid() -> None:
    head = torch.zeros(2, 1, 8, 8, 8, dtype=torch.bool)
    head[0, :, :2, :2, :4] = True
    places = draw_places(head, 2, 1000, torch.Generator().manual_seed(0))
    assert places.index.shape == (2, 64)
    assert places.valid.sum(1).tolist() == [2, 0]
    assert sorted(places.index[0, :2].tolist()) == [0, 1]


def test_targets_of_a_batch(maps: Tensor, views: ViewGenerator) -> None:
    prepare = PrepareVoxelViews(views, ["decoder_1", "encoder_8"], 50)
    image, targets, args, more = prepare(batch_of(maps), "cpu")
    plain, plain_targets = PrepareMapViews(views)(batch_of(maps), "cpu")
    assert torch.equal(image, plain)
    assert args == ()
    assert all(torch.equal(targets[name], value) for name, value in plain_targets.items())
    assert {level: tuple(index.shape) for level, index in more["voxels"].items()} == {
        "decoder_1": (3, 50),
        "encoder_8": (3, 27),
    }
    for b in range(3):
        for v in range(3):
            head = targets["mask"][v * 3 + b].flatten()
            assert head[more["voxels"]["decoder_1"][b][targets["valid"]["decoder_1"][b]]].all()
    cell = more["voxels"]["encoder_8"]
    expected = torch.stack([cell // 9, cell // 3 % 3, cell % 3], -1) * 8 + 3.5
    assert torch.equal(targets["position"]["encoder_8"], expected)


def test_places_are_a_function_of_seed_and_step(maps: Tensor, views: ViewGenerator) -> None:
    def places(step: int, seed: int | None = None) -> Tensor:
        prepare = PrepareVoxelViews(views, ["decoder_1"], 50, seed)
        index: Tensor = prepare(batch_of(maps, step), "cpu")[3]["voxels"]["decoder_1"]
        return index

    torch.manual_seed(1)
    first = places(4)
    torch.manual_seed(2)
    assert torch.equal(places(4), first)
    assert not torch.equal(places(5), first)
    assert not torch.equal(places(4, seed=9), first)


def test_refuses_what_does_not_fit(views: ViewGenerator) -> None:
    with pytest.raises(InputError, match="set shared_geometry to true"):
        PrepareVoxelViews(ViewGenerator("seqinv", PATCH), ["decoder_1"])
    with pytest.raises(InputError, match="level 'encoder_16': give names such as decoder_1 or encoder_8"):
        PrepareVoxelViews(views, ["encoder_16"])
    with pytest.raises(InputError, match="level 'decoder'"):
        PrepareVoxelViews(views, ["decoder"])
    with pytest.raises(InputError, match="contrast_voxels is 1"):
        PrepareVoxelViews(views, ["decoder_1"], 1)
