from __future__ import annotations

import re

import numpy as np
import pytest

from scripts.data.units import LIMITS, UNITS, check_settings, convert, guess_units
from scripts.errors import InputError

# PD [p.u.], R1 [1/s], R2* [1/s], MTsat [p.u.], R2 [1/s] of grey matter, white matter and CSF at 3 T
TISSUES = {
    "pd": (80.0, 70.0, 100.0),
    "r1": (0.62, 0.95, 0.24),
    "r2star": (17.0, 21.0, 2.0),
    "mtsat": (0.85, 1.55, 0.03),
    "r2": (13.5, 14.1, 0.7),
}
STORED = {  # how a value in project units is written in each unit: independent of convert
    "p.u.": lambda x: x,
    "fraction": lambda x: x / 100,
    "a.u.": lambda x: x * 31,
    "1/s": lambda x: x,
    "1/ms": lambda x: x / 1000,
    "1e-3/s": lambda x: x * 1000,
    "s": lambda x: 1 / x,
    "ms": lambda x: 1000 / x,
}
CASES = [(name, unit) for name, units in UNITS.items() for unit in units]


def brain(name: str, seed: int = 0) -> np.ndarray:
    labels = np.repeat([0, 1, 2], [450, 400, 150])
    noise = np.random.default_rng(seed + sorted(TISSUES).index(name)).standard_normal(1000)
    return np.array(TISSUES[name])[labels] * (1 + 0.05 * noise)


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_guess_is_the_unit_it_was_stored_in(name, unit):
    others = {key: brain(key) for key in TISSUES if key != name}
    guesses = guess_units(name, STORED[unit](brain(name)), others)
    # without an order of tissues to go by, the two p.u.-like units are told by size alone
    assert guesses == [unit]


@pytest.mark.parametrize(("name", "unit"), CASES)
def test_convert_brings_back_project_units(name, unit):
    values = brain(name)
    stored = STORED[unit](values).astype(np.float32)
    white_matter = STORED["a.u."](69.0) if unit == "a.u." else None
    np.testing.assert_allclose(convert(name, stored, unit, white_matter=white_matter), values, rtol=1e-5)


def test_rates_and_times_of_like_size_are_told_apart_by_their_order_of_tissues():
    # a T2* map in ms has a median of 53, which could be an R2* in 1/s at 9.4 T
    t2star = 1000 / brain("r2star")
    assert guess_units("r2star", t2star, {"pd": brain("pd"), "r1": brain("r1")}) == ["ms"]
    assert set(guess_units("r2star", t2star, {})) == {"1/s", "ms"}
    # a T1 map in s has a median of 1.5, which could be an R1 at low field
    assert guess_units("r1", 1 / brain("r1"), {"pd": brain("pd")}) == ["s"]


def test_guess_stands_at_other_fields():
    # grey and white matter R1 and R2* at 1.5 T and 7 T (Wright 2008, Peters 2007)
    for r1, r2star in [((0.84, 1.55), (11.9, 15.1)), ((0.52, 0.89), (30.0, 37.0))]:
        assert guess_units("r1", np.repeat(r1, 50), {})[0] == "1/s"
        assert guess_units("r2star", np.repeat(r2star, 50), {})[0] == "1/s"


@pytest.mark.parametrize("values", [np.zeros(9), -np.ones(9), np.full(9, 7e7)])
def test_no_guess_where_nothing_fits(values):
    assert guess_units("r1", values, {}) == []


def test_background_of_a_time_map_stays_zero():
    np.testing.assert_array_equal(convert("r1", np.array([0.0, -1.0, 2.0]), "s"), np.float32([0, 0, 0.5]))


def test_pd_without_white_matter_is_refused():
    with pytest.raises(InputError, match=r"PD in a\.u\. is 0 in white matter"):
        convert("pd", np.ones(3, np.float32), "a.u.", white_matter=0.0)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("ms", 'give "auto" or a mapping'),
        ({"t1": "s"}, "unknown map 't1': the maps are pd, mtsat, r1, r2star, r2"),
        ({"r1": "Hz"}, "r1 in 'Hz': choose from auto, 1/s, 1/ms"),
    ],
)
def test_unknown_settings_are_refused(units, message):
    with pytest.raises(InputError, match=re.escape(message)):
        check_settings(units)


def test_limits_hold_every_tissue():
    assert all(max(TISSUES[name]) < LIMITS[name] for name in TISSUES)
