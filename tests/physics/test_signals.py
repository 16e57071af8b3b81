from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from scripts.physics import flair, fse, gre, mp2rage, mprage, mprage_closed_form

Signal = Callable[..., Tensor]
Tissues = dict[str, Tensor]


def rows(tissues: Tissues) -> list[tuple[float, ...]]:
    return list(zip(*(values.tolist() for values in tissues.values()), strict=True))


@pytest.mark.parametrize(("te", "tr"), list(product((0.01, 0.1), (0.5, 5.0))))
def test_fse_is_its_equation(tissues: Tissues, te: float, tr: float) -> None:
    expected = [pd * (1 - math.exp(-r1 * tr)) * math.exp(-r2 * te) for pd, r1, r2, _ in rows(tissues)]
    image = fse(tissues["pd"], tissues["r1"], tissues["r2star"], te=te, tr=tr)
    torch.testing.assert_close(image.tolist(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("te", "tr", "ti"), list(product((0.01, 0.1), (4.0, 9.0), (0.4, 2.5))))
def test_flair_is_the_magnitude_of_its_equation(tissues: Tissues, te: float, tr: float, ti: float) -> None:
    expected = [
        pd * abs(1 - 2 * math.exp(-r1 * ti) + math.exp(-r1 * tr)) * math.exp(-r2 * te)
        for pd, r1, r2, _ in rows(tissues)
    ]
    image = flair(tissues["pd"], tissues["r1"], tissues["r2star"], te=te, tr=tr, ti=ti)
    torch.testing.assert_close(image.tolist(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("tr", "angle", "mt"), list(product((0.005, 0.5), (3, 45, 120), (True, False))))
def test_gre_is_its_equation(tissues: Tissues, tr: float, angle: float, mt: bool) -> None:
    te, a = 0.004, angle * math.pi / 180
    expected = []
    for pd, r1, r2star, mtsat in rows(tissues):
        left = 1 - mtsat / 100 if mt else 1.0
        e1 = math.exp(-r1 * tr)
        steady = left * (1 - e1) / (1 - math.cos(a) * left * e1)
        expected.append(pd * math.sin(a) * steady * math.exp(-r2star * te))
    maps = (tissues["pd"], tissues["r1"], tissues["r2star"], tissues["mtsat"] if mt else None)
    torch.testing.assert_close(gre(*maps, te=te, tr=tr, flip_angle=angle).tolist(), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(("angle", "n", "td"), list(product((5, 12), (100, 175), (0.0, 0.9))))
def test_closed_form_mprage_is_its_equation(tissues: Tissues, angle: float, n: int, td: float) -> None:
    tr, tx, a = 2.3, 0.007, angle * math.pi / 180
    expected = []
    for pd, r1, _, _ in rows(tissues):
        e1, ed = math.exp(-r1 * tr), math.exp(-r1 * td)
        steady = math.sin(a) * (1 - e1) / (1 - math.cos(a) * e1)
        expected.append(pd * abs(steady * (1 - (math.cos(a) * math.exp(-tx * r1)) ** n) * ed + 1 - ed))
    image = mprage_closed_form(tissues["pd"], tissues["r1"], tr=tr, td=td, tx=tx, flip_angle=angle, n=n)
    torch.testing.assert_close(image.tolist(), expected, rtol=1e-9, atol=0)


def steady_state_trains(
    r1: float, delays: list[float], angles: list[float], centres: list[int], tx: float, n: int, eff: float
) -> list[float]:
    """Play pulse after pulse until the cycle repeats itself; what each train's central pulse tips over."""
    relax = lambda m, time: 1 - (1 - m) * math.exp(-r1 * time)  # noqa: E731
    m, tipped = 1.0, [0.0] * len(angles)
    for _ in range(60):
        m = -eff * m
        for train, angle in enumerate(angles):
            m = relax(m, delays[train])
            for pulse in range(n):
                if pulse == centres[train]:
                    tipped[train] = m * math.sin(angle)
                m = relax(m * math.cos(angle), tx)
        m = relax(m, delays[-1])
    return tipped


@pytest.mark.parametrize(("n", "angle", "eff"), [(160, 9, 0.96), (161, 5, 1.0), (90, 12, 0.8), (2, 60, 0.0)])
def test_mprage_is_the_steady_state_of_its_pulses(tissues: Tissues, n: int, angle: float, eff: float) -> None:
    tr, ti, tx, te = 2.1, 0.85, 0.007, 0.003
    delays = [ti - n * tx / 2, tr - ti - n * tx / 2]
    expected = []
    for pd, r1, r2star, _ in rows(tissues):
        (tipped,) = steady_state_trains(r1, delays, [math.radians(angle)], [n // 2 - 1], tx, n, eff)
        expected.append(pd * abs(tipped) * math.exp(-r2star * te))
    settings = {"tr": tr, "ti": ti, "tx": tx, "te": te, "flip_angle": angle, "n": n, "efficiency": eff}
    image = mprage(tissues["pd"], tissues["r1"], tissues["r2star"], **settings)
    torch.testing.assert_close(image.tolist(), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("n", "angles", "eff"), [(160, (4, 5), 0.96), (151, (7, 3), 0.8)])
def test_mp2rage_is_the_steady_state_of_its_pulses(
    tissues: Tissues, n: int, angles: tuple[float, float], eff: float
) -> None:
    tr, ti1, ti2, tx, te = 5.0, 0.8, 2.4, 0.0065, 0.003
    delays = [ti1 - n * tx / 2, ti2 - ti1 - n * tx, tr - ti2 - n * tx / 2]
    centres = [n // 2 - 1, n - n // 2]
    expected = []
    for _, r1, _, _ in rows(tissues):
        one, two = steady_state_trains(r1, delays, [math.radians(a) for a in angles], centres, tx, n, eff)
        expected.append(abs(one * two) / (one**2 + two**2))
    settings = {"tr": tr, "ti1": ti1, "ti2": ti2, "tx": tx, "te": te, "n": n, "efficiency": eff}
    image = mp2rage(tissues["pd"], tissues["r1"], tissues["r2star"], flip_angles=angles, **settings)
    torch.testing.assert_close(image.tolist(), expected, rtol=1e-8, atol=1e-9)


def test_proton_density_and_receive_field_scale_the_signal(signal: Signal, tissues: Tissues) -> None:
    image = signal(**tissues)
    factor = 1.0 if signal.__name__ == "mp2rage" else 1.7
    torch.testing.assert_close(signal(**{**tissues, "pd": 1.7 * tissues["pd"]}), factor * image)
    torch.testing.assert_close(signal(**tissues, receive=torch.tensor(1.7)), factor * image)


def test_transmit_field_scales_the_flip_angle(tissues: Tissues) -> None:
    pd, r1, r2star, mtsat = tissues.values()
    b1 = torch.tensor([0.7, 0.9, 1.1, 1.3], dtype=torch.float64)
    times = {"tr": 2.3, "ti": 0.9, "tx": 0.006, "te": 0.003, "n": 160, "efficiency": 0.96}
    scaled = mprage(pd, r1, r2star, flip_angle=8.0, transmit=b1, **times)
    torch.testing.assert_close(scaled, mprage(pd, r1, r2star, flip_angle=8.0 * b1, **times))
    scaled = gre(pd, r1, r2star, mtsat, te=0.004, tr=0.02, flip_angle=15, transmit=b1)
    torch.testing.assert_close(scaled, gre(pd, r1, r2star, mtsat, te=0.004, tr=0.02, flip_angle=15 * b1))
    times = {"tr": 6.0, "ti1": 0.8, "ti2": 2.2, "tx": 0.006, "te": 0.003, "n": 150, "efficiency": 0.96}
    scaled = mp2rage(pd, r1, r2star, flip_angles=(4, 5), transmit=b1, **times)
    torch.testing.assert_close(scaled, mp2rage(pd, r1, r2star, flip_angles=(4 * b1, 5 * b1), **times))
    times = {"tr": 2.3, "td": 0.9, "tx": 0.006, "n": 160}
    scaled = mprage_closed_form(pd, r1, flip_angle=8.0, transmit=b1, **times)
    torch.testing.assert_close(scaled, mprage_closed_form(pd, r1, flip_angle=8.0 * b1, **times))


def test_limits(tissues: Tissues) -> None:
    pd, r1, r2star, mtsat = tissues.values()
    torch.testing.assert_close(fse(pd, r1, r2star, te=0, tr=1e3), pd)
    torch.testing.assert_close(flair(pd, r1, r2star, te=0, tr=1e3, ti=0), pd)
    torch.testing.assert_close(flair(pd, r1, r2star, te=0, tr=1e3, ti=math.log(2) / r1), 0 * pd)
    torch.testing.assert_close(gre(pd, r1, r2star, None, te=0, tr=1e3, flip_angle=90), pd)
    assert (gre(pd, r1, r2star, mtsat, te=0.002, tr=0.02, flip_angle=0) == 0).all()
    # Without an inversion and with ages between small trains, MPRAGE is one pulse on relaxed magnetisation.
    lazy = {"tr": 200, "ti": 100, "tx": 0.006, "te": 0, "flip_angle": 30, "n": 2, "efficiency": 0}
    torch.testing.assert_close(mprage(pd, r1, r2star, **lazy), pd / 2)
    # A train much longer than T1 forgets the inversion: the steady state of the spoiled gradient echo.
    long = {"tr": 1000, "ti": 500, "tx": 0.01, "te": 0.004, "flip_angle": 9, "n": 99998, "efficiency": 0.9}
    steady = gre(pd, r1, r2star, None, te=0.004, tr=0.01, flip_angle=9)
    torch.testing.assert_close(mprage(pd, r1, r2star, **long), steady)


def test_mtsat_dims_myelin_more_than_grey_matter(tissues: Tissues) -> None:
    pd, r1, r2star, mtsat = tissues.values()
    settings = {"te": 0.005, "tr": 0.025, "flip_angle": 6}
    ratio = gre(pd, r1, r2star, mtsat, **settings) / gre(pd, r1, r2star, None, **settings)
    grey, white, csf = ratio[:3].tolist()
    assert white < grey < csf < 1


def test_gradients_are_right(signal: Signal, tissues: Tissues) -> None:
    maps = [values.clone().requires_grad_() for values in tissues.values()]
    b1 = torch.tensor([0.8, 0.9, 1.1, 1.2], dtype=torch.float64, requires_grad=True)
    fields = () if signal.__name__ in ("fse", "flair") else ("transmit",)
    assert torch.autograd.gradcheck(lambda *m, f=fields: signal(*m[:4], **dict.fromkeys(f, m[4])), (*maps, b1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_background_is_zero_with_finite_gradients(signal: Signal, dtype: torch.dtype) -> None:
    maps = [torch.zeros(3, dtype=dtype, requires_grad=True) for _ in range(4)]
    image = signal(*maps)
    assert image.dtype == dtype
    assert (image == 0).all()
    image.sum().backward()
    assert all(m.grad is None or m.grad.isfinite().all() for m in maps)


def test_float32_keeps_its_digits(signal: Signal, tissues: Tissues) -> None:
    """Also where 1 - q is a small difference of large numbers, in trains of small flip angles."""
    image = signal(**{name: values.float() for name, values in tissues.items()})
    torch.testing.assert_close(image.double(), signal(**tissues), rtol=5e-6, atol=1e-7)


def test_one_call_serves_a_protocol_for_each_sample(tissues: Tissues) -> None:
    pd, r1, r2star = (tissues[name].expand(2, 4) for name in ("pd", "r1", "r2star"))
    each = [
        {"tr": 2.3, "ti": 0.9, "tx": 0.006, "te": 0.003, "flip_angle": 9, "n": 160, "efficiency": 0.96},
        {"tr": 1.9, "ti": 1.0, "tx": 0.009, "te": 0.004, "flip_angle": 7, "n": 175, "efficiency": 0.9},
    ]
    columns = {name: torch.tensor([[float(p[name])] for p in each]) for name in each[0]}
    alone = [mprage(pd[0], r1[0], r2star[0], **p) for p in each]
    torch.testing.assert_close(mprage(pd, r1, r2star, **columns), torch.stack(alone), rtol=1e-5, atol=0)


def test_plain_numbers_are_enough() -> None:
    torch.testing.assert_close(float(fse(80.0, 0.6, 12.0, te=0.0, tr=1.0)), 80 * (1 - math.exp(-0.6)))
