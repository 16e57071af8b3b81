from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from scripts.errors import InputError
from scripts.physics import PRESETS, SEQUENCES, Protocol, default_protocol, draw_protocol, load_prior


def draw_many(prior: Any, sequence: str, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    protocols = [draw_protocol(prior, sequence, generator) for _ in range(count)]
    return {name: np.array([p.parameters[name] for p in protocols]) for name in protocols[0].parameters}


def test_a_protocol_is_replayed_from_its_record() -> None:
    for preset in PRESETS:
        prior = load_prior(preset)
        for sequence in prior:
            protocol = draw_protocol(prior, sequence, torch.Generator().manual_seed(1))
            record = json.loads(json.dumps(protocol.to_dict()))
            assert Protocol.from_dict(record) == protocol == pickle.loads(pickle.dumps(protocol))


def test_a_seed_repeats_its_draws() -> None:
    prior = load_prior("released")
    first, again, other = (draw_many(prior, "mprage", 5, seed) for seed in (1, 1, 2))
    for name in ("tr", "n", "efficiency"):
        assert (first[name] == again[name]).all()
        assert (first[name] != other[name]).any()


@pytest.mark.parametrize(
    ("protocol", "title"),
    [
        (default_protocol("mprage"), "MPRAGE TR 2300 TE 3.0 TI 900 ms FA 9 deg"),
        (default_protocol("fse"), "FSE TR 5000 TE 100 ms"),
        (default_protocol("gre_mt"), "GRE with MT TR 25 TE 5.0 ms FA 6 deg"),
        (default_protocol("mp2rage"), "MP2RAGE TR 6250 TE 2.9 TI 800/2200 ms FA 4/5 deg"),
        (default_protocol("mprage", closed_form=1), "MPRAGE TR 2300 TE 3.0 TI 900 ms FA 9 deg closed form"),
    ],
)
def test_a_protocol_has_a_short_title(protocol: Protocol, title: str) -> None:
    assert str(protocol) == title


@pytest.mark.parametrize(
    ("spec", "law"),
    [
        ({"uniform": [0.6, 0.9]}, stats.uniform(0.6, 0.3)),
        ({"loguniform": [0.002, 3.0]}, stats.loguniform(0.002, 3.0)),
        ({"normal": [2.3, 0.23]}, stats.norm(2.3, 0.23)),
        ({"normal": [0.1, 0.2]}, stats.foldnorm(0.5, scale=0.2)),
        ({"log10normal": [0.02, 0.1]}, stats.lognorm(0.1 * math.log(10), scale=0.02)),
    ],
    ids=["uniform", "loguniform", "normal", "reflected normal", "log10normal"],
)
def test_draws_follow_their_distribution(spec: dict[str, list[float]], law: Any) -> None:
    drawn = draw_many(load_prior({"fse": {"tr": spec}}), "fse", 2000)
    assert stats.kstest(drawn["tr"], law.cdf).pvalue > 1e-3
    assert (drawn["te"] == 0.1).all()


def test_numbers_choices_and_multiples() -> None:
    prior = load_prior({"mprage": {"tr": 2, "te": {"choice": [0.002, 0.003]}, "tx": {"times": ["te", 2]}}})
    drawn = draw_many(prior, "mprage", 400)
    assert (drawn["tr"] == 2).all()
    assert (drawn["tx"] == 2 * drawn["te"]).all()
    assert stats.binomtest(int((drawn["te"] == 0.002).sum()), 400).pvalue > 1e-3
    assert set(drawn["te"]) == {0.002, 0.003}


def test_counts_are_whole_and_efficiencies_reflected_at_one() -> None:
    drawn = draw_many(
        load_prior({"mprage": {"n": {"normal": [3, 2]}, "efficiency": {"normal": [0.96, 0.4]}}}), "mprage", 2000
    )
    assert (drawn["n"] == np.round(drawn["n"])).all()
    assert drawn["n"].min() == 2
    assert 0 <= drawn["efficiency"].min() <= drawn["efficiency"].max() <= 1
    raw = stats.norm(0.96, 0.4)

    def reflected(x: np.ndarray) -> np.ndarray:
        """Probability of at most x when draws fold at 0 and at 1."""
        return sum(raw.cdf(2 * k + x) - raw.cdf(2 * k - x) for k in range(-3, 4))

    assert stats.kstest(drawn["efficiency"], reflected).pvalue > 1e-3


def test_alternatives_are_drawn_equally_often() -> None:
    drawn = draw_many(load_prior({"fse": [{"te": 0.01}, {"te": 0.1}, {"te": 0.2, "tr": 9}]}), "fse", 600)
    counts = [int((drawn["te"] == te).sum()) for te in (0.01, 0.1, 0.2)]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert ((drawn["tr"] == 9) == (drawn["te"] == 0.2)).all()


def test_paper_is_its_table_5_with_the_misprint_read_right() -> None:
    prior = load_prior("paper")
    assert list(prior) == ["fse", "gre_mt", "flair", "mprage"]
    drawn = draw_many(prior, "mprage", 2000)
    assert stats.kstest(drawn["tr"], stats.norm(2.3, 0.23).cdf).pvalue > 1e-3
    assert (drawn["closed_form"] == 0).all()
    override = {"tr": {"normal": [23, 2.3]}, "closed_form": 1}
    literal = draw_many(load_prior({"preset": "paper", "mprage": override}), "mprage", 50)
    assert 20 < literal["tr"].mean() < 26
    assert (literal["closed_form"] == 1).all()
    ranges = {
        ("fse", "te"): (0.001, 3),
        ("flair", "ti"): (0.001, 3),
        ("flair", "te"): (0.02, 0.1),
        ("gre_mt", "tr"): (0.005, 5),
    }
    for (sequence, name), (low, high) in ranges.items():
        values = draw_many(prior, sequence, 1000)[name]
        assert stats.kstest(values, stats.loguniform(low, high).cdf).pvalue > 1e-3


def test_released_is_the_published_code() -> None:
    prior = load_prior("released")
    assert set(prior) == set(SEQUENCES)
    drawn = draw_many(prior, "mprage", 1000)
    assert (drawn["tx"] == 2 * drawn["te"]).all()
    assert 1.9 <= drawn["tr"].min() <= drawn["tr"].max() <= 2.5
    flair = draw_many(prior, "flair", 1000)
    # Shares counted once in draws of the published code: TI beyond TR, TE beyond TR, second train beyond TR.
    assert abs((flair["ti"] > flair["tr"]).mean() - 0.47) < 0.05
    assert abs((flair["te"] > flair["tr"]).mean() - 0.35) < 0.05
    two = draw_many(prior, "mp2rage", 2000)
    overrun = two["tr"] - two["ti2"] < two["n"] * two["tx"] / 2
    assert abs(overrun.mean() - 0.81) < 0.03


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_physical_draws_nothing_that_a_scanner_could_not_run(sequence: str) -> None:
    p = draw_many(load_prior("physical"), sequence, 2000)
    assert (p["te"] > 0).all()
    assert (p["te"] < p["tr"]).all()
    for name in ("flip_angle", "flip_angle1", "flip_angle2"):
        assert name not in p or ((p[name] > 0) & (p[name] <= 90)).all()
    if sequence == "fse":
        assert ((p["te"] >= 0.008) & (p["te"] <= 0.15)).all()
        assert {bool(t) for t in p["te"] > 0.06} == {bool(t) for t in p["tr"] < 1} == {True, False}
    if sequence == "flair":
        csf = 1 - 2 * np.exp(-0.23 * p["ti"]) + np.exp(-0.23 * p["tr"])
        assert (np.abs(csf) <= 0.1).all()
        assert (p["tr"] > 4).all()
        assert (p["ti"] + p["te"] < p["tr"]).all()
    if sequence == "mprage":
        train = p["n"] * p["tx"]
        assert (p["ti"] >= train / 2).all()
        assert (p["tr"] - p["ti"] >= train / 2).all()
    if sequence == "mp2rage":
        train = p["n"] * p["tx"]
        assert (p["ti1"] >= train / 2).all()
        assert (p["ti2"] - p["ti1"] >= train).all()
        assert (p["tr"] - p["ti2"] >= train / 2).all()
    if "tx" in p:
        assert (p["te"] < p["tx"]).all()
        assert (p["efficiency"] > 0.8).all()


def test_a_mapping_restricts_and_changes_a_preset() -> None:
    prior = load_prior({"preset": "physical", "sequences": ["fse", "mprage"], "fse": {"tr": 4.0}})
    assert list(prior) == ["fse", "mprage"]
    assert [alternative["tr"] for alternative in prior["fse"]] == [4.0] * 3
    assert prior["mprage"] == load_prior("physical")["mprage"]
    assert "flair" not in load_prior({"preset": "paper", "flair": None})
    assert load_prior(json.loads(json.dumps(prior))) == prior
    prior["mprage"]["tr"] = 0
    assert load_prior("physical")["mprage"]["tr"] != 0


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("clinical", "unknown preset 'clinical'; there are paper, released, physical"),
        ({"preset": "mine"}, "unknown preset 'mine'"),
        ({"epi": {}}, "unknown sequence 'epi'; there are fse, gre, gre_mt"),
        ({"preset": "paper", "sequences": ["gre"]}, "'gre', which the prior does not hold"),
        ({"fse": {"ti": 0.9}}, "fse: unknown parameter 'ti'; there are tr, te"),
        ({"fse": {"tr": {"gamma": [1, 2]}}}, r"fse.tr: .*neither a number nor one of uniform, loguniform"),
        ({"fse": {"tr": {"uniform": [3, 2]}}}, r"uniform takes \[low, high\], not \[3, 2\]"),
        ({"fse": {"tr": {"loguniform": [0, 2]}}}, r"both positive, not \[0, 2\]"),
        ({"fse": {"tr": {"normal": [1]}}}, r"normal takes \[mean, standard deviation\], not \[1\]"),
        ({"fse": {"tr": {"normal": ["1", 2]}}}, "normal takes"),
        ({"fse": {"tr": {"choice": []}}}, "choice takes"),
        ({"fse": {"tr": {"times": ["te", 2]}}}, "drawn before"),
        ({"fse": {"tr": float("nan")}}, "fse.tr: nan is neither"),
        ({"fse": {"tr": True}}, "fse.tr: True is neither"),
        ({"fse": {"feasible": 1}}, "fse.feasible is 1; give true or false"),
        ({"fse": 3}, "fse is 3; give a mapping"),
        ({"fse": None}, "no sequence is left"),
        ({}, "no sequence is left"),
    ],
)
def test_a_mistaken_prior_is_told_in_one_line(prior: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_prior(prior)
    assert "\n" not in str(caught.value)


def test_ranges_without_a_feasible_timing_are_told() -> None:
    prior = load_prior({"preset": "physical", "mprage": {"ti": {"uniform": [0.01, 0.02]}}})
    with pytest.raises(InputError, match=r"mprage yields no timing .*the train begins before the inversion"):
        draw_protocol(prior, "mprage", torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="does not hold the sequence 'gre'; it holds fse, gre_mt"):
        draw_protocol(load_prior("paper"), "gre", torch.Generator())


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"sequence": "fse"}, "it needs 'sequence' and 'parameters'"),
        ({"sequence": "fsee", "parameters": {}}, "unknown sequence 'fsee'"),
        ({"sequence": "fse", "parameters": {"te": 0.1}}, "fse: missing tr; give every parameter"),
        ({"sequence": "fse", "parameters": {"te": 0.1, "tr": 2, "ti": 1}}, "unknown parameter 'ti'"),
        ({"sequence": "fse", "parameters": {"te": 0.1, "tr": math.inf}}, "tr is inf; give a finite number"),
    ],
)
def test_a_mistaken_record_is_told_in_one_line(record: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Protocol.from_dict(record)
