from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from scripts.errors import InputError
from scripts.metrics.probes import (
    TissuePrediction,
    balanced_accuracy,
    predict_tissue,
    r_squared,
    sequence_probe_hits,
    squared_errors,
)
from scripts.metrics.ridge import PENALTIES, ridge_predict, subject_folds

RNG = np.random.default_rng
Floats = NDArray[np.float64]


def sequence_probe(features: Floats, subjects: object) -> float:
    return float(sequence_probe_hits(features, subjects).mean())  # type: ignore[arg-type]


def r2(said: TissuePrediction) -> float:
    return float(r_squared(squared_errors(said).sum(axis=0)))


def probe(features: Floats, fractions: Floats, subjects: NDArray[np.generic]) -> TissuePrediction:
    return predict_tissue(features, fractions, subjects, np.zeros(len(features)), across_sequences=False)


def test_one_hot_sequence_is_read_off() -> None:
    assert sequence_probe(np.broadcast_to(np.eye(4), (6, 4, 4)), list("aabbcc")) == 1.0


def test_features_without_sequence_score_chance() -> None:
    n, s = 60, 4
    features = RNG(0).normal(size=(n, s, 6))
    accuracy = sequence_probe(features, np.arange(n) // 3)
    assert abs(accuracy - 1 / s) < 4 * math.sqrt(0.25 * 0.75 / (n * s))


def test_identical_views_cannot_be_told_apart() -> None:
    features = np.repeat(RNG(1).normal(size=(20, 1, 5)), 4, axis=1)
    assert sequence_probe(features, np.arange(20) // 2) == pytest.approx(0.25)


def test_sequence_probe_never_sees_the_subjects_it_is_tested_on() -> None:
    # sequence is marked by a channel of its own in each subject: readable within a subject, not across
    n_subjects, s = 5, 2
    features = np.zeros((4 * n_subjects, s, n_subjects))
    for anatomy in range(len(features)):
        features[anatomy, 0, anatomy // 4] = 1
    subjects = np.arange(len(features)) // 4
    flat, labels = features.reshape(-1, n_subjects), np.tile([0, 1], len(features))
    seen = LogisticRegression().fit(StandardScaler().fit_transform(flat), labels)
    assert seen.score(StandardScaler().fit_transform(flat), labels) == 1.0
    assert sequence_probe(features, subjects) == pytest.approx(0.5)


def test_sequence_probe_equals_a_loop_over_subjects(features: Floats, subjects: list[str]) -> None:
    features, names = features[:10], np.array(subjects[:10])  # five subjects, as many as folds
    hits = []
    for name in np.unique(names):
        train, test = features[names != name].reshape(-1, 5), features[names == name].reshape(-1, 5)
        scale = StandardScaler().fit(train)
        model = LogisticRegression(tol=1e-8).fit(scale.transform(train), np.tile([0, 1, 2], len(train) // 3))
        hits += list(model.predict(scale.transform(test)) == np.tile([0, 1, 2], len(test) // 3))
    assert sequence_probe(features, names) == pytest.approx(np.mean(hits))
    assert 1 / 3 < np.mean(hits) < 1


def closed_form(x: Floats, y: Floats, asked: Floats, penalty: float, weight: Floats | None = None) -> Floats:
    """The normal equations with the intercept as a column of ones that is not penalised."""
    weight = np.ones(len(x)) if weight is None else weight / weight.mean()
    deviation = x.std(axis=0)
    live = deviation > 0
    z, q = ((rows[:, live] - x.mean(axis=0)[live]) / deviation[live] for rows in (x, asked))
    design = np.column_stack([np.ones(len(z)), z])
    shrink = penalty * len(x) * np.diag([0.0] + [1.0] * z.shape[1])
    slopes = np.linalg.solve(design.T @ (weight[:, None] * design) + shrink, design.T @ (weight[:, None] * y))
    return np.column_stack([np.ones(len(q)), q]) @ slopes


@pytest.mark.parametrize("n", [3, 40], ids=["fewer rows than channels", "more rows"])
@pytest.mark.parametrize("weighted", [False, True])
def test_ridge_equals_the_closed_form(n: int, weighted: bool) -> None:
    rng = RNG(2)
    x, y, asked = rng.normal(3, 2, (n, 6)), rng.normal(size=(n, 3)), rng.normal(size=(9, 6))
    x[:, 4] = 1.5  # a dead channel
    y[:, 1] = 2.0  # a constant target
    weight = rng.uniform(0.2, 3, n) if weighted else None
    got = ridge_predict(x, y, asked, ["one"] * n, weight)  # one subject: the penalty is 1
    np.testing.assert_allclose(got, closed_form(x, y, asked, 1.0, weight), rtol=1e-9, atol=1e-12)


def test_ridge_chooses_the_penalty_that_predicts_unseen_subjects_best() -> None:
    rng = RNG(3)
    x, asked, groups = rng.normal(size=(90, 20)), rng.normal(size=(9, 20)), np.arange(90) // 5
    weight = rng.uniform(0.2, 3, 90)
    fit, held = next(iter(subject_folds(groups, folds=3)))
    chosen = []
    for noise in (0.0, 3.0, 100.0):
        y = x[:, :2] + noise * rng.normal(size=(90, 2))
        found = [closed_form(x[fit], y[fit], x[held], penalty, weight[fit]) for penalty in PENALTIES]
        errors = [weight[held] @ ((predicted - y[held]) ** 2).sum(axis=1) for predicted in found]
        chosen.append(PENALTIES[int(np.argmin(errors))])
        expected = closed_form(x, y, asked, chosen[-1], weight)
        np.testing.assert_allclose(ridge_predict(x, y, asked, groups, weight), expected, rtol=1e-9, atol=1e-12)
    assert chosen == sorted(set(chosen)), "more noise must ask for more shrinkage"


def tissue_rows(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """(M, T) fractions of 8 subjects with 12 patches, a linear readout of them (M, D), and the subjects."""
    rng = RNG(seed)
    fractions = rng.dirichlet([1.5, 1.0, 0.4], size=96)
    return fractions, fractions @ rng.normal(size=(3, 10)), np.arange(96) // 12


def test_tissue_in_a_linear_code_is_read_off() -> None:
    fractions, features, subjects = tissue_rows()
    said = probe(features, fractions, subjects)
    assert r2(said) > 0.99  # the smallest penalty still shrinks by a few hundredths
    assert balanced_accuracy(said) > 0.8
    assert said.tissues() == [0, 1, 2]
    assert len(said.truth) == 96


def test_tissue_cannot_be_read_from_noise() -> None:
    fractions, _, subjects = tissue_rows()
    said = probe(RNG(9).normal(size=(96, 10)), fractions, subjects)
    assert -0.2 < r2(said) < 0.1
    assert abs(balanced_accuracy(said) - 1 / 3) < 0.15


def test_tissue_probe_equals_a_loop_over_subjects() -> None:
    fractions, features, subjects = tissue_rows(1)
    features = features + RNG(4).normal(scale=0.5, size=features.shape)
    subjects = subjects // 2  # four, fewer than folds
    dominant = fractions.argmax(axis=1)
    predicted, named = np.zeros_like(fractions), np.zeros(96, int)
    for subject in range(4):
        train, test = subjects != subject, subjects == subject
        x, asked, counts = features[train], features[test], np.bincount(dominant[train])
        who, weight = subjects[train], 1 / counts[dominant[train]]
        predicted[test] = ridge_predict(x, fractions[train], asked, who)
        named[test] = ridge_predict(x, np.eye(3)[dominant[train]], asked, who, weight).argmax(axis=1)
    spread = ((fractions - fractions.mean(axis=0)) ** 2).sum()
    said = probe(features, fractions, subjects)
    assert r2(said) == pytest.approx(1 - ((fractions - predicted) ** 2).sum() / spread)
    assert balanced_accuracy(said) == pytest.approx(balanced_accuracy_score(dominant, named))
    assert 0.4 < balanced_accuracy(said) < 0.95, "the case must hold hits and misses"


def test_across_sequences_needs_a_code_that_sequences_share() -> None:
    fractions, _, subjects = tissue_rows(2)
    rng = RNG(5)
    shared, own = rng.normal(size=(3, 10)), rng.normal(size=(4, 3, 10))
    rows = {
        "shared": np.concatenate([fractions @ shared for _ in range(4)]),
        "own": np.concatenate([fractions @ own[s] for s in range(4)]),
    }
    mix, groups, names = np.tile(fractions, (4, 1)), np.tile(subjects, 4), np.repeat(list("abcd"), 96)
    across = {kind: predict_tissue(x, mix, groups, names, across_sequences=True) for kind, x in rows.items()}
    assert r2(across["shared"]) > 0.99
    assert r2(across["own"]) < 0
    assert balanced_accuracy(across["own"]) < 0.7 < balanced_accuracy(across["shared"])


def test_across_sequences_asks_about_every_row_from_every_other_sequence() -> None:
    fractions, features, subjects = tissue_rows(3)
    mix, x = np.tile(fractions, (3, 1)), np.tile(features, (3, 1))
    said = predict_tissue(x, mix, np.tile(subjects, 3), np.repeat(list("abc"), 96), across_sequences=True)
    rows, counts = np.unique(said.truth, axis=0, return_counts=True)
    assert len(rows) == 96
    # three sequences, each asked about by the two others
    np.testing.assert_array_equal(counts, 6)


def test_background_rows_are_left_out() -> None:
    fractions, features, subjects = tissue_rows()
    extended = np.concatenate([fractions, np.zeros((8, 3))])
    wild = np.concatenate([features, np.full((8, 10), 1e6)])
    with_air, without = (
        probe(wild, extended, np.concatenate([subjects, np.arange(8)])),
        probe(features, fractions, subjects),
    )
    np.testing.assert_array_equal(with_air.predicted, without.predicted)
    np.testing.assert_array_equal(with_air.named, without.named)


def test_folds_share_no_subject_and_test_every_row_once() -> None:
    groups = RNG(6).integers(0, 7, 50)
    tested = []
    for train, test in subject_folds(groups, folds=5):
        assert not set(groups[train]) & set(groups[test])
        tested += list(test)
    assert sorted(tested) == list(range(50))


def test_a_tissue_that_dominates_in_one_subject_alone_is_not_scored() -> None:
    fractions, features, subjects = tissue_rows()
    alone = subjects == 3
    two = np.stack([fractions[:, 0], fractions[:, 1], np.zeros(96)], axis=1) + 1e-3
    with_third = np.where(alone[:, None], [0.1, 0.1, 0.8], two)
    said = probe(features, with_third, subjects)
    assert said.tissues() == [0, 1]
    rest = said.tissue != 2
    expected = balanced_accuracy_score(said.tissue[rest], np.where(said.named == 2, 1 - said.tissue, said.named)[rest])
    assert balanced_accuracy(said) == pytest.approx(expected)
    only_grey = probe(features, np.tile([0.6, 0.3, 0.1], (96, 1)), subjects)
    assert np.isnan(balanced_accuracy(only_grey))
    assert np.isnan(r2(only_grey))


@pytest.mark.parametrize(
    ("groups", "across", "fractions", "match"),
    [
        (np.zeros(96), False, 1.0, "got 1: evaluate at least 2"),
        (np.arange(95), False, 1.0, r"one row each, got \(96, 96, 95, 96\)"),
        (np.arange(96), True, 1.0, "pass their names as sequences"),
        (np.arange(96), False, 0.0, "no cell holds tissue"),
        (np.arange(96), False, np.inf, "fractions must be finite"),
    ],
    ids=["one subject", "lengths", "one sequence", "no tissue", "inf"],
)
def test_bad_input_is_refused(groups: NDArray[np.generic], across: bool, fractions: float, match: str) -> None:
    _, features, _ = tissue_rows()
    with pytest.raises(InputError, match=match):
        predict_tissue(features, np.full((96, 3), fractions), groups, np.zeros(96), across_sequences=across)
