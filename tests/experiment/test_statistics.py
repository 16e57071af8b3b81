from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.errors import InputError
from scripts.experiment.results.scores import subject_values
from scripts.experiment.results.statistics import (
    cell_statistics,
    compare_overall,
    compare_variants,
    holm,
    paired_differences,
    paired_test,
    seed_spread,
)
from scripts.tasks import TASKS

CELL = {"modality": "T1w", "fraction": 1.0, "site": "Guys"}


def values(table: dict[str, list[float]], **cell: object) -> pd.DataFrame:
    """A value per subject of each variant; None where a variant lacks the subject."""
    rows = [
        {"variant": variant, **CELL, **cell, "subject": f"s{n}", "value": value, "seeds": 1}
        for variant, numbers in table.items()
        for n, value in enumerate(numbers)
        if value is not None
    ]
    return pd.DataFrame(rows)


def signed_rank_p(differences: np.ndarray) -> float:
    """All 2^n signs, counted."""
    d = differences[differences != 0]
    ranks = stats.rankdata(np.abs(d))
    seen = ranks[d > 0].sum()
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(d))])
    return float(min(1.0, 2 * min(np.mean(sums >= seen - 1e-9), np.mean(sums <= seen + 1e-9))))


def test_mean_error_and_interval_of_a_cell() -> None:
    numbers = np.random.default_rng(1).normal(60, 5, 30)
    (row,) = cell_statistics(values({"base": numbers.tolist()})).to_dict("records")
    assert row["mean"] == pytest.approx(sum(numbers) / 30)
    assert row["standard_error"] == pytest.approx(stats.sem(numbers))
    theirs = stats.bootstrap(
        (numbers,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    # 2000 and 20000 draws: quantiles agree to about a twentieth of the standard error of 0.9
    assert (row["low"], row["high"]) == pytest.approx((theirs.low, theirs.high), abs=0.1)
    assert (row["n"], row["n_seeds"]) == (30, 1)
    assert {name: row[name] for name in CELL} == CELL


def test_one_subject_has_a_mean_and_no_uncertainty() -> None:
    (row,) = cell_statistics(values({"base": [61.0]})).to_dict("records")
    assert row["mean"] == 61.0
    assert np.isnan([row["standard_error"], row["low"], row["high"]]).all()


def test_subjects_are_the_unit_not_classes_or_seeds() -> None:
    numbers = np.random.default_rng(3).uniform(size=(5, 2, 3))
    scores = pd.DataFrame(
        [
            {"task": "ixi_seg", "variant": "base", **CELL, "subject": f"s{n}", "seed": seed}
            | {"class": str(tissue), "metric": "DSC", "value": numbers[n, seed, tissue]}
            for n, seed, tissue in itertools.product(range(5), range(2), range(3))
        ]
    )
    (row,) = cell_statistics(subject_values(scores, "ixi_seg", TASKS["ixi_seg"].headline)).to_dict("records")
    by_subject = 100 * numbers.mean(axis=(1, 2))
    assert row["mean"] == pytest.approx(by_subject.mean())
    assert row["standard_error"] == pytest.approx(by_subject.std(ddof=1) / np.sqrt(5))
    assert (row["n"], row["n_seeds"]) == (5, 2)
    (apart,) = seed_spread(scores[scores["metric"] == "DSC"]).to_dict("records")
    assert apart["spread"] == pytest.approx(numbers.mean(axis=(0, 2)).std(ddof=1))
    assert apart["seeds"] == 2


def test_one_seed_has_no_spread() -> None:
    scores = values({"base": [1.0, 2.0]}).assign(seed=0)
    assert seed_spread(scores).empty


@pytest.mark.parametrize(
    "differences",
    [
        [1.2, -0.3, 2.5, 0.7, -0.1, 3.1, 0.9],
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -2.0, 4.0],
        [0.0, 0.0, 1.0, 2.0, -3.0, 4.0, 5.0, 5.0],
        [0.5],
        [-1.0, 0.0],
    ],
    ids=["plain", "all positive", "ties", "zeros and ties", "one", "one and a zero"],
)
def test_the_signed_rank_test_is_exact_for_few_subjects(differences: list[float]) -> None:
    p, smallest = paired_test(differences)
    assert p == pytest.approx(signed_rank_p(np.array(differences)))
    assert p >= smallest


def test_few_subjects_cannot_reach_five_percent() -> None:
    assert paired_test([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx((0.0625, 0.0625))
    assert paired_test([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == pytest.approx((0.03125, 0.03125))
    # zeros say nothing, so three of five allow no more than three
    assert paired_test([0.0, 0.0, 1.0, 2.0, 3.0])[1] == 0.25
    assert paired_test([0.0, 0.0, 0.0]) == (1.0, 1.0)


def test_p_values_are_uniform_where_nothing_differs() -> None:
    draws = np.random.default_rng(4).standard_normal((400, 12))
    found = np.array([paired_test(row)[0] for row in draws])
    # 400 draws: 5 % come out below 0.05, give or take 3.3 standard errors
    assert abs((found <= 0.05).mean() - 0.05) < 0.036
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_holm_on_a_worked_example() -> None:
    # by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to the one before
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([]).shape == (0,)


def test_holm_rejects_what_its_steps_reject() -> None:
    p = np.random.default_rng(5).beta(0.3, 3, 25)
    for level in (0.01, 0.05, 0.2):
        rejected = np.zeros(25, dtype=bool)
        for k, place in enumerate(np.argsort(p)):
            if p[place] > level / (25 - k):
                break
            rejected[place] = True
        assert np.array_equal(holm(p) <= level, rejected)


@pytest.mark.parametrize("p", [[0.1, np.nan], [1.1], [-0.1], [[0.1, 0.2]]])
def test_holm_refuses_what_is_no_probability(p: list[float]) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        holm(p)


def test_variants_are_compared_over_the_subjects_that_both_have() -> None:
    table = values({"base": [50, 60, 70, 10], "seqinv": [51, 63, 75, None], "random": [None, None, None, 10]})
    assert paired_differences(table, "seqinv", "base")["difference"].tolist() == [1, 3, 5]
    found = compare_variants(table, "seqinv", ["base", "random", "scratch"], better="higher")
    (row,) = found.to_dict("records")  # random shares no subject, scratch does not exist
    assert (row["first"], row["second"], row["n"]) == ("seqinv", "base", 3)
    assert (row["difference"], row["gain"]) == (3.0, 3.0)
    assert 1 <= row["low"] < 3 < row["high"] <= 5
    assert (row["p"], row["smallest_p"]) == (0.25, 0.25)


def test_less_is_a_gain_where_lower_is_better() -> None:
    table = values({"base": [50.0, 60, 70], "seqinv": [40.0, 55, 69]})
    (row,) = compare_variants(table, "seqinv", ["base"], better="lower").to_dict("records")
    assert (row["difference"], row["gain"]) == pytest.approx((-16 / 3, 16 / 3))


def test_turning_a_comparison_round_changes_its_sign_only() -> None:
    rng = np.random.default_rng(6)
    table = values({"base": rng.normal(60, 5, 9).tolist(), "seqinv": rng.normal(63, 5, 9).tolist()})
    there, back = (
        compare_variants(table, a, [b], better="higher").iloc[0] for a, b in (("seqinv", "base"), ("base", "seqinv"))
    )
    assert there["difference"] == pytest.approx(-back["difference"])
    assert (there["low"], there["high"]) == pytest.approx((-back["high"], -back["low"]))
    assert there["p"] == back["p"]


def test_each_cell_is_compared_by_itself() -> None:
    table = pd.concat(
        [
            values({"base": [1.0, 2], "seqinv": [2.0, 4]}, modality="T1w"),
            values({"base": [1.0, 2], "seqinv": [0.0, 0]}, modality="T2w"),
            values({"base": [1.0, 2]}, modality="PDw"),
        ]
    )
    found = compare_variants(table, "seqinv", ["base"], better="higher").set_index("modality")["difference"]
    assert found.to_dict() == {"T1w": 1.5, "T2w": -1.5}


def test_overall_a_subject_counts_once_however_many_cells_it_has() -> None:
    table = pd.concat(
        [
            values({"base": [0.0, 0, 0], "seqinv": [1.0, 2, 3]}, modality="T1w"),
            values({"base": [0.0, 0, None], "seqinv": [3.0, 4, 9]}, modality="T2w"),
            values({"base": [0.0], "seqinv": [-7.0]}, site="HH"),  # s0 of another site is another subject
        ]
    )
    (row,) = compare_overall(table, "seqinv", ["base", "scratch"], better="higher").to_dict("records")
    subjects = [2.0, 3.0, 3.0, -7.0]  # (1 + 3) / 2, (2 + 4) / 2, 3, -7
    assert row["difference"] == pytest.approx(np.mean(subjects))
    assert (row["n"], row["cells"]) == (4, 3)
    assert row["p"] == pytest.approx(signed_rank_p(np.array(subjects)))


def test_nothing_to_compare_gives_nothing() -> None:
    table = values({"base": [1.0, 2.0]})
    assert compare_variants(table, "seqinv", ["base"], better="higher").empty
    assert compare_overall(table, "seqinv", ["base"], better="higher").empty
