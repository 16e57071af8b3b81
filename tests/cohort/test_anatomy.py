from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.interpolate import BSpline

from scripts.cohort import anatomy, lesion, template
from scripts.cohort import lattice as fields
from scripts.cohort import person as subject
from scripts.cohort import tissue_values as tissue
from scripts.physics import flair, fse, mprage

SPACING = 4.0
TISSUES = template.TISSUES


def make(number: int, seed: int = 0, spacing: float = SPACING) -> dict[str, Any]:
    person = subject.draw_person(number, seed)
    brain, stroke, spots = subject.make_brain(person, seed, fields.brain_grid(spacing))
    values = tissue.draw_values(fields.stream(seed, number, "tissue"))
    rng = fields.stream(seed, number, "noise")
    maps = tissue.paint_maps(brain, values, rng, lesion=stroke, hyperintensity=spots)
    return {"person": person, "brain": brain, "lesion": stroke, "maps": maps}


@pytest.fixture(scope="module")
def people() -> list[dict[str, Any]]:
    """Subjects 1 to 4: healthy, stroke, healthy, stroke."""
    return [make(number) for number in (1, 2, 3, 4)]


def pure(one: dict[str, Any], name: str, least: float = 0.9) -> np.ndarray:
    chosen: np.ndarray = one["brain"].fractions[TISSUES.index(name)] > least
    if one["lesion"] is not None:
        chosen = chosen & (one["lesion"].extent < 0.01)
    return chosen


def test_a_lattice_is_the_cubic_b_spline_of_its_coefficients() -> None:
    lattice = fields.white_lattice(np.random.default_rng(0), 30.0)
    axes = [np.array([-60.0, -3.0, 41.5]), np.array([-100.0, 20.0]), np.array([0.0, 12.0, 77.0])]
    weights = []
    for points, nodes in zip(axes, fields.lattice_axes(30.0), strict=True):
        bumps = [BSpline.basis_element(node + 30.0 * np.arange(-2, 3), extrapolate=False) for node in nodes]
        weights.append(np.nan_to_num([[bump(point) for bump in bumps] for point in points]))
    expected = np.einsum("cijk,xi,yj,zk->cxyz", lattice.values, *weights)
    np.testing.assert_allclose(fields.sample_lattice(lattice, axes), expected, rtol=1e-4, atol=1e-5)


def test_random_fields_have_unit_variance() -> None:
    lattice = fields.white_lattice(np.random.default_rng(1), 8.0, 3)
    values = fields.sample_lattice(lattice, fields.brain_grid(3.0).axes())
    np.testing.assert_allclose(values.std((1, 2, 3)), 1.0, atol=0.05)
    np.testing.assert_allclose(values.mean((1, 2, 3)), 0.0, atol=0.1)


def test_interpolation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(2)
    volume = rng.random((2, 7, 9, 8), dtype=np.float32)
    index = (rng.random((3, 50)) * np.array([[6], [8], [7]])).astype(np.float32)
    expected = [ndimage.map_coordinates(channel, index, order=1) for channel in volume]
    np.testing.assert_allclose(template.sample_volume(torch.from_numpy(volume), index), expected, atol=2e-6)


def test_the_flow_of_a_linear_velocity_is_exponential() -> None:
    shape = [len(axis) for axis in fields.lattice_axes(4.0)]
    x = np.arange(shape[0], dtype=np.float32) * 4.0
    velocity = np.zeros((3, *shape), np.float32)
    velocity[0] = (0.1 * (x - x.mean()))[:, None, None]
    velocity[2] = 2.5
    flow = anatomy.integrate(velocity)[:, 12:-12, 12:-12, 12:-12]
    # dx/dt = 0.1 (x - m) moves x by (e^0.1 - 1) (x - m); 64 Euler steps are within half of 0.1^2 / 64 of it
    expected = np.expm1(0.1) * (x - x.mean())[12:-12, None, None] * np.ones_like(flow[0])
    np.testing.assert_allclose(flow[0], expected, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(flow[2], 2.5, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_deformation_is_a_diffeomorphism(seed: int) -> None:
    shape = anatomy.draw_shape(np.random.default_rng(seed), ventricles=(8.0, -0.5))
    place = anatomy.to_template(shape, fields.brain_grid(3.0))
    gradient = np.stack([np.stack(np.gradient(place[axis], 3.0)) for axis in range(3)])
    jacobian = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)))
    assert jacobian.min() > 0.05
    assert np.log(jacobian).std() > 0.05


def test_ventricles_widen_on_the_side_that_is_asked_for() -> None:
    grid, volumes = fields.brain_grid(SPACING), []
    for growth in ((0.0, 0.0), (4.0, 0.0)):
        shape = anatomy.draw_shape(np.random.default_rng(3), ventricles=growth)
        brain = anatomy.build_anatomy(shape, grid, np.random.default_rng(4))
        left = brain.points[0] < 0
        volumes.append((brain.ventricle[left].sum(), brain.ventricle[~left].sum()))
    assert volumes[1][0] > 1.35 * volumes[0][0]
    assert volumes[1][1] < 1.15 * volumes[0][1]


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("caudate", 6.0, 11.0), ("putamen", 7.0, 13.0), ("thalamus", 10.0, 18.0), ("pallidum", 1.8, 4.5)],
)
def test_deep_nuclei_have_human_volumes(name: str, low: float, high: float) -> None:
    plane = template.load_template(1.0).channels[template.CHANNELS.index(name)].numpy()
    assert low < plane.sum() / 1000.0 < high
    np.testing.assert_array_less(np.abs(plane - plane[::-1]).sum(), 0.1 * plane.sum())


def test_fractions_add_to_one_and_brains_have_human_volumes(people: list[dict[str, Any]]) -> None:
    for one in people:
        fractions = one["brain"].fractions
        np.testing.assert_allclose(fractions.sum(0), 1.0, atol=1e-5)
        assert fractions.min() >= 0.0
        assert 1.2 < one["brain"].brain.sum() * SPACING**3 / 1e6 < 2.3


def test_a_subject_is_the_same_person_at_another_spacing(people: list[dict[str, Any]]) -> None:
    finer, coarse = make(2, spacing=2.5), people[1]
    for name in ("white", "thalamus"):
        index = TISSUES.index(name)
        volumes = [one["brain"].fractions[index].sum() * s**3 for one, s in ((finer, 2.5), (coarse, SPACING))]
        assert volumes[0] == pytest.approx(volumes[1], rel=0.04)
    volumes = [one["lesion"].mask.sum() * s**3 for one, s in ((finer, 2.5), (coarse, SPACING))]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.02)


# Ranges over people of regional medians: clinicalMPM (Cooper 2020), the MPM classes of SPM's multi-brain
# toolbox, GESSE (Cox and Gowland 2010). PD and MTsat p.u., rates 1/s.
@pytest.mark.parametrize(
    ("name", "parameter", "low", "high"),
    [
        ("grey", "PD", 76.5, 83.0),
        ("grey", "R1", 0.55, 0.68),
        ("grey", "R2star", 14.0, 21.0),
        ("grey", "R2", 11.5, 15.0),
        ("grey", "MTsat", 0.70, 1.0),
        ("white", "PD", 68.0, 72.5),
        ("white", "R1", 0.85, 1.04),
        ("white", "R2star", 19.0, 23.0),
        ("white", "R2", 12.5, 15.5),
        ("white", "MTsat", 1.35, 1.75),
        ("csf", "PD", 97.0, 102.0),
        ("csf", "R1", 0.2, 0.28),
        ("csf", "MTsat", 0.0, 0.12),
        ("putamen", "R1", 0.64, 0.77),
        ("putamen", "R2star", 17.0, 27.0),
        ("thalamus", "R1", 0.64, 0.80),
        ("thalamus", "MTsat", 0.95, 1.3),
    ],
)
def test_tissue_medians_lie_in_the_literature_range(
    people: list[dict[str, Any]], name: str, parameter: str, low: float, high: float
) -> None:
    medians = [np.median(one["maps"][parameter][pure(one, name)]) for one in people]
    assert low < min(medians)
    assert max(medians) < high


def test_values_spread_between_people_as_the_table_says() -> None:
    rng = np.random.default_rng(5)
    draws = [tissue.draw_values(rng) for _ in range(600)]
    for name in ("grey", "white", "pallidum"):
        mean, between, _ = np.array(tissue.TABLE[name]).T
        drawn = np.stack([draw[name] for draw in draws])
        np.testing.assert_allclose(drawn.mean(0), mean, atol=0.2 * between.max(), rtol=0.02)
        np.testing.assert_allclose(drawn.std(0), between, rtol=0.2)


def test_tissue_is_textured_as_the_table_says(people: list[dict[str, Any]]) -> None:
    for index, parameter in enumerate(tissue.MAPS):
        spread = people[0]["maps"][parameter][pure(people[0], "white", 0.97)].std()
        assert spread == pytest.approx(tissue.TABLE["white"][index][2], rel=0.35)


def signals(one: dict[str, Any]) -> dict[str, np.ndarray]:
    pd, r1, r2star, r2 = (torch.from_numpy(one["maps"][name]) for name in ("PD", "R1", "R2star", "R2"))
    t1w = mprage(pd, r1, r2star, tr=2.3, ti=0.9, tx=0.006, te=0.003, flip_angle=9.0, n=176, efficiency=0.96)
    images = {
        "mprage": t1w,
        "t2w": fse(pd, r1, r2, te=0.1, tr=5.0),
        "pdw": fse(pd, r1, r2, te=0.01, tr=5.0),
        "flair": flair(pd, r1, r2, te=0.1, tr=9.0, ti=2.4),
    }
    return {name: image.numpy() for name, image in images.items()}


def test_contrasts_have_the_order_radiologists_know(people: list[dict[str, Any]]) -> None:
    for one in people:
        median = {
            (image, name): np.median(values[pure(one, name)])
            for image, values in signals(one).items()
            for name in ("grey", "white", "csf", "putamen")
        }
        t1w, t2w, pdw, dark = ({n: v for (i, n), v in median.items() if i == image} for image in signals(one))
        assert t1w["white"] > 1.02 * t1w["putamen"] > 1.02 * t1w["grey"] > 1.5 * t1w["csf"]
        assert t2w["csf"] > 2.0 * t2w["grey"] > 2.0 * t2w["white"]
        assert pdw["grey"] > pdw["white"]
        assert dark["csf"] < 0.5 * dark["white"], dark


def test_lesions_have_the_planned_volume_and_side(people: list[dict[str, Any]]) -> None:
    for one in (people[1], people[3]):
        plan, grown, points = one["person"].lesion, one["lesion"], one["brain"].points
        assert grown.mask.sum() * SPACING**3 / 1000.0 == pytest.approx(plan.volume_ml, rel=0.05)
        assert (plan.side * points[0][grown.mask]).min() > 0.0
        assert (grown.cavity[grown.mask] > 0.5).mean() == pytest.approx(plan.cavity, abs=0.15)
        assert one["brain"].ventricle[grown.mask].max() < 0.5


def test_a_cavity_is_dark_in_flair_within_a_bright_rim(people: list[dict[str, Any]]) -> None:
    for one in (people[1], people[3]):
        image, extent, cavity = signals(one)["flair"], one["lesion"].extent, one["lesion"].cavity
        white = np.median(image[pure(one, "white")])
        assert np.median(image[(extent > 0.95) & (cavity > 0.95)]) < 0.6 * white
        assert np.median(image[(extent > 0.9) & (cavity < 0.1)]) > 1.2 * white


def test_lesion_volumes_are_log_uniform_and_on_both_sides() -> None:
    plans = [lesion.draw_lesion(np.random.default_rng(seed)) for seed in range(400)]
    low, high = np.log(lesion.VOLUMES_ML)
    spread = (np.log([plan.volume_ml for plan in plans]) - low) / (high - low)
    assert stats.kstest(spread, "uniform").pvalue > 0.001
    assert 0.25 < np.mean([plan.side > 0 for plan in plans]) < 0.55
    np.testing.assert_allclose([np.prod(plan.axes) for plan in plans], 1.0)


def test_hyperintensities_lie_in_white_matter_and_have_the_asked_amount(people: list[dict[str, Any]]) -> None:
    brain = people[0]["brain"]
    weight = lesion.grow_hyperintensity(0.02, brain, np.random.default_rng(6))
    white = brain.fractions[TISSUES.index("white")]
    assert (weight <= white).all()
    deep = (white > 0.9) & (brain.points[2] > -5.0)
    assert (weight[deep] > 0.5 * white[deep]).mean() == pytest.approx(0.02, abs=0.005)


@pytest.mark.parametrize("count", [30, 51, 200])
def test_groups_alternate_through_every_part_of_a_sorted_split(count: int) -> None:
    groups = [subject.draw_person(number, 7).group for number in range(1, count + 1)]
    training, validation = int(0.7 * count), int(0.1 * count)
    parts = groups[:training], groups[training : training + validation], groups[training + validation :]
    assert all(set(part) == {"healthy", "stroke"} for part in parts)
    assert abs(groups.count("stroke") - count * 29 / 51) < 1.0
