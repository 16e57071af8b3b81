from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from scripts.physics import default_protocol, evaluate_bspline, simulate
from scripts.views import ViewGenerator
from scripts.views.generator import SIGNAL_FLOOR

PATCH = 24
STILL = {
    "rotation": 0.0,
    "scale": 0.0,
    "shear": 0.0,
    "flip": 0.0,
    "elastic": 0.0,
    "bias_probability": 0.0,
    "gibbs_probability": 0.0,
    "noise_probability": 0.0,
    "dropout_probability": 0.0,
}


def test_shapes_and_normalisation(maps):
    views = ViewGenerator("seqinv", PATCH, n_views=3)
    made = views(maps, step=0)
    assert made["image"].shape == made["target"].shape == (9, 1, PATCH, PATCH, PATCH)
    assert made["image"].dtype == torch.float32
    for target, mask in zip(made["target"], made["mask"], strict=True):
        assert target[mask].mean().abs() < 1e-3
        assert abs(target[mask].std(correction=0) - 1) < 1e-3
    assert torch.isfinite(made["image"]).all()


def test_views_replay_from_recorded_parameters(maps):
    views = ViewGenerator("seqinv", PATCH)
    made = views(maps, step=4)
    again = ViewGenerator("seqinv", PATCH, seed=99).apply(maps, made["params"])
    for key in ("image", "target"):
        torch.testing.assert_close(again[key], made[key], rtol=0, atol=0)


@pytest.mark.parametrize("mode", ["base", "seqaug", "seqinv"])
def test_batched_equals_one_by_one(maps, mode):
    views = ViewGenerator(mode, PATCH, ranges={"transmit": 0.1})
    made = views(maps, step=1)
    for row in range(len(made["image"])):
        anatomy = row % len(maps)
        alone = views.apply(maps[anatomy : anatomy + 1], made["params"].select([row]))
        torch.testing.assert_close(alone["image"][0], made["image"][row], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(alone["target"][0], made["target"][row], rtol=1e-4, atol=1e-4)


def test_the_step_alone_decides(maps):
    views = ViewGenerator("seqinv", PATCH)
    first = views(maps, step=2)["image"]
    torch.manual_seed(123)
    views(maps, step=9)
    torch.testing.assert_close(views(maps, step=2)["image"], first, rtol=0, atol=0)
    assert not torch.allclose(views(maps, step=3)["image"], first)


def test_without_augmentation_a_view_is_the_centre_of_the_simulated_region(maps):
    views = ViewGenerator("base", PATCH, ranges=STILL)
    params = views.draw(len(maps), 0)
    centred = params.control - params.affine[:, None, None, None, :, 3]
    still = type(params)(**{**vars(params), "control": centred})
    made = views.apply(maps, still)
    region = simulate(maps, [default_protocol("mprage")] * len(maps))
    margin = (views.region_size - PATCH) // 2
    kept = slice(margin, margin + PATCH)
    crop = region[:, :, kept, kept, kept]
    for b in range(len(maps)):
        inside = crop[b] > SIGNAL_FLOOR * crop[b].max()
        expected = (crop[b] - crop[b][inside].mean()) / crop[b][inside].std(correction=0)
        torch.testing.assert_close(made["target"][b], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(made["image"][b], expected, rtol=1e-3, atol=1e-3)


def test_coordinates_say_where_each_voxel_came_from(maps):
    views = ViewGenerator("seqinv", PATCH)
    params = views.draw(len(maps), 3)
    clean = views.clean(maps, params)
    where = evaluate_bspline(params.control, (PATCH,) * 3)
    signal = views.signal(maps, params, range(len(params.protocols)))
    for row in range(len(clean)):
        looked_up = map_coordinates(
            signal[row, 0].double().numpy(), where[row].movedim(-1, 0).numpy(), order=1, mode="constant"
        )
        largest = looked_up.max()
        inside = ((where[row] > 0.5) & (where[row] < views.region_size - 1.5)).all(-1).numpy()
        np.testing.assert_allclose(clean[row, 0].numpy()[inside], (looked_up / largest)[inside], atol=2e-3)


def test_all_views_of_an_anatomy_show_the_same_place(maps):
    """Paint one voxel of the region: every view shows it where its coordinates say."""
    views = ViewGenerator("seqinv", PATCH)
    params = views.draw(1, 6)
    where = evaluate_bspline(params.control, (PATCH,) * 3)
    centre = torch.full((3,), (views.region_size - 1) / 2)
    for row in range(len(where)):
        nearest = (where[row] - centre).norm(dim=-1)
        assert nearest.min() < 1.5, "the centre of the region, a brain voxel, lies in every view"


def test_target_is_taken_before_corruption(maps):
    quiet = {k: 0.0 for k in STILL if k.endswith("probability")}
    noisy = ViewGenerator("seqaug", PATCH)(maps, step=0)
    clean = ViewGenerator("seqaug", PATCH, ranges=quiet)
    replayed = clean.apply(maps, clean.draw(len(maps), 0))
    torch.testing.assert_close(noisy["target"].shape, replayed["target"].shape)
    torch.testing.assert_close(replayed["image"], replayed["target"], rtol=1e-4, atol=1e-4)
    assert (noisy["image"] - noisy["target"]).abs().mean() > 0.02


def test_an_r2_map_is_used_where_the_batch_has_one(maps):
    views = ViewGenerator("seqaug", PATCH, sequences=["fse"], ranges=STILL)
    with_r2 = torch.cat([maps, 0.5 * maps[:, 2:3]], dim=1)
    params = views.draw(len(maps), 0)
    a, b = views.apply(maps, params)["target"], views.apply(with_r2, params)["target"]
    assert (a - b).abs().max() > 0.01
    forced = ViewGenerator("seqaug", PATCH, sequences=["fse"], ranges=STILL, r2_from="r2star")
    torch.testing.assert_close(forced.apply(with_r2, params)["target"], a)


def test_half_precision_maps_give_nearly_the_same_views(maps):
    views = ViewGenerator("seqinv", PATCH, sequences=["mprage", "fse", "gre_mt"])
    params = views.draw(len(maps), 0)
    full, half = views.apply(maps, params)["target"], views.apply(maps.half(), params)["target"]
    assert (full - half).abs().max() < 0.05


@pytest.mark.gpu
def test_cuda_equals_cpu_before_noise(maps):
    views = ViewGenerator("seqinv", PATCH)
    params = views.draw(len(maps), 0)
    there = views.clean(maps.cuda(), params.to("cuda")).cpu()
    torch.testing.assert_close(there, views.clean(maps, params), rtol=1e-4, atol=1e-4)
