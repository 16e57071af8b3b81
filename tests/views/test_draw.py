from __future__ import annotations

import json

import pytest
import torch

from scripts.errors import InputError
from scripts.physics import default_protocol, evaluate_bspline
from scripts.views import ViewGenerator, ViewParameters, ViewRanges, generator_for, region_size

PATCH = 24


def tensors(params: ViewParameters) -> dict[str, torch.Tensor]:
    return {k: v for k, v in vars(params).items() if isinstance(v, torch.Tensor)}


def test_a_draw_is_a_function_of_seed_step_and_rank():
    views = ViewGenerator(patch_size=PATCH, seed=5)
    first = views.draw(2, step=7, rank=1)
    torch.rand(3)
    again = ViewGenerator(patch_size=PATCH, seed=5).draw(2, step=7, rank=1)
    assert first.to_dict() == again.to_dict()
    others = [views.draw(2, 8, 1), views.draw(2, 7, 0), ViewGenerator(patch_size=PATCH, seed=6).draw(2, 7, 1)]
    for other in others:
        assert not torch.equal(other.control, first.control)
        assert other.noise_seed != first.noise_seed


def test_keys_of_neighbouring_integers_give_unrelated_streams():
    streams = [torch.rand(4, generator=generator_for(*key)) for key in ((0, 1), (1, 0), (0, 0, 1), (0, 1, 0))]
    for i, a in enumerate(streams):
        assert all(not torch.allclose(a, b) for b in streams[i + 1 :])


def test_parameters_survive_json():
    params = ViewGenerator(patch_size=PATCH).draw(2, 0)
    replayed = ViewParameters.from_dict(json.loads(json.dumps(params.to_dict())))
    assert replayed.protocols == params.protocols
    assert replayed.noise_seed == params.noise_seed
    for name, value in tensors(params).items():
        torch.testing.assert_close(getattr(replayed, name), value, rtol=0, atol=0)


@pytest.mark.parametrize("n_views", [2, 4])
def test_modes_pair_sequences_as_the_paper_says(n_views):
    batch = 6
    base = ViewGenerator("base", PATCH, n_views).draw(batch, 0).protocols
    assert all(p == default_protocol("mprage") for p in base)

    seqaug = ViewGenerator("seqaug", PATCH, n_views).draw(batch, 0).protocols
    for b in range(batch):
        assert all(seqaug[v * batch + b] == seqaug[b] for v in range(n_views))
    assert len({str(p) for p in seqaug}) > 1

    seqinv = ViewGenerator("seqinv", PATCH, n_views).draw(batch, 0).protocols
    for b in range(batch):
        assert len({seqinv[v * batch + b].sequence for v in range(n_views)}) == n_views


def test_more_views_than_sequences_repeat_a_sequence_with_other_parameters():
    views = ViewGenerator("seqinv", PATCH, n_views=5, sequences=["fse", "mprage"])
    protocols = views.draw(1, 0).protocols
    counts = sorted([p.sequence for p in protocols].count(name) for name in ("fse", "mprage"))
    assert counts == [2, 3]
    assert len({str(sorted(p.to_dict()["parameters"].items())) for p in protocols}) == 5


def test_flips_take_all_numbers_of_axes_and_rotations_stay_small():
    ranges = ViewRanges()
    params = ViewGenerator(patch_size=PATCH).draw(200, 0)
    matrix = params.affine[:, :, :3]
    flips = (torch.diagonal(matrix, dim1=1, dim2=2) < 0).sum(1)
    shares = torch.bincount(flips, minlength=4) / len(flips)
    torch.testing.assert_close(shares, torch.tensor([1, 3, 3, 1]) / 8, atol=0.08, rtol=0)
    determinant = torch.linalg.det(matrix).abs()
    assert determinant.min() > (1 - ranges.scale) ** 3 * 0.99
    assert determinant.max() < (1 + ranges.scale) ** 3 * 1.01
    unit = matrix / matrix.norm(dim=1, keepdim=True)
    angle = torch.rad2deg(torch.acos(torch.diagonal(unit, dim1=1, dim2=2).abs().clamp(max=1)))
    assert angle.max() < 2 * ranges.rotation
    assert angle.mean() > 3


def test_views_reach_over_the_margin_of_the_region_and_no_further():
    params = ViewGenerator(patch_size=96).draw(100, 0)
    reach = (region_size(96) - 96) / 2
    shift = params.affine[:, :, 3]
    assert region_size(96) == 116
    assert shift.abs().max() <= reach
    assert shift.abs().max() > 0.9 * reach


def test_warps_do_not_fold():
    views = ViewGenerator(patch_size=32, ranges={"elastic": 6.0})
    where = evaluate_bspline(views.draw(4, 0).control, (32, 32, 32))
    along = [torch.diff(where, dim=d)[:, :31, :31, :31] for d in (1, 2, 3)]
    jacobian = torch.linalg.det(torch.stack(along, dim=-1))
    assert (jacobian > 0).all(dim=(1, 2, 3)).logical_or((jacobian < 0).all(dim=(1, 2, 3))).all()


def test_cuboids_lie_within_the_patch_and_their_number_varies():
    params = ViewGenerator(patch_size=PATCH).draw(100, 0)
    first, last = params.cuboids.unbind(-1)
    assert first.min() >= 0
    assert last.max() <= PATCH
    used = (last > first).all(-1).sum(1)
    assert used.min() == 0
    assert used.max() == ViewRanges().cuboids
    assert torch.equal((last > first).all(-1), (last > first).any(-1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "seqfoo"}, "unknown mode 'seqfoo'.*base, seqaug, seqinv"),
        ({"n_views": 1}, "at least 2 views"),
        ({"prior": "papper"}, "papper"),
        ({"sequences": ["fse", "swi"]}, "unknown sequence.*swi"),
        ({"sequences": ["fse"]}, "name two or more"),
        ({"ranges": {"rotations": 3}}, "unknown augmentation.*rotations"),
        ({"ranges": {"flip": 2.0}}, "flip is a probability"),
        ({"ranges": {"bias_control": 2}}, "at least 4"),
        ({"ranges": {"gibbs": 0.0}}, "k-space"),
    ],
)
def test_bad_settings_are_told_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        ViewGenerator(**{"patch_size": PATCH, **arguments})
    assert "\n" not in str(caught.value)
