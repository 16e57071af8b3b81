from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from scripts.experiment.results.training_scatter import compare_trainings, training_interval, training_scatter

CELL = {"modality": "T1w", "fraction": 1.0, "site": "Guys"}


def by_training(table: np.ndarray) -> pd.DataFrame:
    """A value per variant (rows) and seed (columns)."""
    rows = [{"variant": f"v{v}", "seed": seed, "value": value} for (v, seed), value in np.ndenumerate(table)]
    return pd.DataFrame(rows)


def by_subject(table: dict[str, np.ndarray]) -> pd.DataFrame:
    """A value per seed (rows) and subject (columns) of each variant."""
    rows = [
        {"variant": variant, **CELL, "seed": seed, "subject": f"s{n}", "value": value}
        for variant, numbers in table.items()
        for (seed, n), value in np.ndenumerate(numbers)
    ]
    return pd.DataFrame(rows)


class TestScatter:
    @pytest.mark.parametrize(("n", "times"), [(2, 12.706), (3, 4.303), (5, 2.776)])
    def test_one_variant_alone_has_the_wide_interval_of_student(self, n: int, times: float) -> None:
        values = np.random.default_rng(n).normal(70, 2, n)
        low, high = training_interval(values, training_scatter(by_training(values[None])))
        # printed tables of t have three decimals
        assert (high - low) / 2 == pytest.approx(times * values.std(ddof=1) / np.sqrt(n), rel=3e-4)
        theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (low, high) == pytest.approx((theirs.low, theirs.high))

    def test_about_own_means_it_is_that_of_one_way_analysis(self) -> None:
        table = np.random.default_rng(1).normal(60, 3, (5, 3))
        found = training_scatter(by_training(table))
        between = 3 * table.mean(axis=1).var(ddof=1)
        assert found.freedom == 5 * 2
        assert between / found.deviation**2 == pytest.approx(stats.f_oneway(*table).statistic)

    def test_beside_seeds_it_is_what_additive_effects_leave(self) -> None:
        rng = np.random.default_rng(2)
        table = rng.normal(60, 3, (5, 3)) + 50 * rng.normal(size=(1, 3))
        found = training_scatter(by_training(table), ("variant", "seed"))
        left = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
        assert found.freedom == 4 * 2
        assert found.deviation == pytest.approx(np.sqrt((left**2).sum() / 8))

    def test_a_training_that_is_missing_costs_a_degree_of_freedom(self) -> None:
        rows = by_training(np.random.default_rng(3).normal(60, 3, (5, 3))).iloc[:-1]
        assert training_scatter(rows).freedom == 9
        assert training_scatter(rows, ("variant", "seed")).freedom == 7

    def test_without_repetition_there_is_none(self) -> None:
        scatter = training_scatter(by_training(np.array([[60.0], [70.0]])))
        assert scatter.freedom == 0
        assert np.isnan(training_interval([60.0], scatter)).all()

    def test_intervals_cover_as_often_as_they_say(self) -> None:
        rng = np.random.default_rng(4)
        rows = by_training(np.zeros((8, 2))).assign(site="all", subject="all")
        covered = []
        for _ in range(250):
            table = rng.normal(0, 2, (8, 2)) + np.arange(8)[:, None] + rng.normal(0, 5, (1, 2))
            rows["value"] = table.ravel()
            found = compare_trainings(rows, "v5", "v2")
            covered.append(found["low"] <= 3 <= found["high"])
        # four standard errors of a share of 0.95 in 250
        assert np.mean(covered) == pytest.approx(0.95, abs=0.0551)


class TestCompared:
    def test_two_variants_have_the_paired_interval(self) -> None:
        rng = np.random.default_rng(5)
        seqinv, base = rng.normal(70, 5, (3, 8)), rng.normal(68, 5, (3, 8))
        found = compare_trainings(by_subject({"seqinv": seqinv, "base": base}), "seqinv", "base")
        theirs = stats.ttest_rel(seqinv.mean(axis=1), base.mean(axis=1)).confidence_interval(0.95)
        assert found["difference"] == pytest.approx((seqinv - base).mean())
        assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high))
        assert found["n"] == 3

    def test_a_third_variant_changes_the_interval_alone(self) -> None:
        rng = np.random.default_rng(6)
        table = {name: rng.normal(70, 5, (2, 8)) for name in ("seqinv", "base", "seqaug")}
        alone = compare_trainings(by_subject({name: table[name] for name in ("seqinv", "base")}), "seqinv", "base")
        among = compare_trainings(by_subject(table), "seqinv", "base")
        assert among["difference"] == alone["difference"]
        means = np.stack([table[name].mean(axis=1) for name in table])
        left = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
        # two degrees of freedom: 4.303
        assert (among["high"] - among["low"]) / 2 == pytest.approx(4.3027 * np.sqrt((left**2).sum() / 2), rel=1e-4)

    def test_a_seed_and_a_subject_that_one_lacks_count_for_neither(self) -> None:
        rng = np.random.default_rng(7)
        seqinv, base = rng.normal(70, 5, (3, 8)), rng.normal(68, 5, (3, 8))
        frame = by_subject({"seqinv": seqinv, "base": base})
        lacking = frame[~((frame["variant"] == "base") & ((frame["seed"] == 2) | (frame["subject"] == "s7")))]
        found = compare_trainings(lacking, "seqinv", "base")
        assert found["n"] == 2
        assert found["difference"] == pytest.approx((seqinv - base)[:2, :7].mean())

    def test_without_a_common_training_there_is_nothing(self) -> None:
        frame = by_subject({"seqinv": np.ones((1, 2)), "base": np.ones((2, 2))})
        apart = frame[~((frame["variant"] == "base") & (frame["seed"] == 0))]
        assert compare_trainings(apart, "seqinv", "base") == {}
        assert compare_trainings(frame, "seqinv", "random") == {}
