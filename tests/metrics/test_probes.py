from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from scripts.errors import InputError
from scripts.metrics.invariance import sequence_probe, tissue_probe
from scripts.metrics.probes import predict_tissue
from scripts.metrics.ridge import PENALTIES, ridge_predict, subject_folds

RNG = np.random.default_rng


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


def test_sequence_probe_equals_a_loop_over_subjects(features: NDArray[np.float64], subjects: list[str]) -> None:
    names = np.array(subjects)
    hits = []
    for name in np.unique(names):
        train, test = features[names != name].reshape(-1, 5), features[names == name].reshape(-1, 5)
        scale = StandardScaler().fit(train)
        model = LogisticRegression(tol=1e-8).fit(scale.transform(train), np.tile([0, 1, 2], len(train) // 3))
        hits += list(model.predict(scale.transform(test)) == np.tile([0, 1, 2], len(test) // 3))
    assert sequence_probe(features, subjects, folds=6) == pytest.approx(np.mean(hits))
    assert 1 / 3 < np.mean(hits) < 1


def test_ridge_equals_sklearn() -> None:
    rng = RNG(2)
    x, y, asked = rng.normal(3, 2, (40, 6)), rng.normal(size=(40, 3)), rng.normal(size=(9, 6))
    x[:, 4] = 1.5  # a dead channel
    weight = rng.uniform(0.2, 3, 40)
    scale = StandardScaler().fit(x)
    model = Ridge(alpha=0.3 * 40).fit(scale.transform(x), y, sample_weight=weight / weight.mean())
    expected = model.predict(scale.transform(asked))
    got = ridge_predict(x, y, asked, np.arange(40), weight=weight, penalty=0.3)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_ridge_chooses_the_penalty_that_predicts_unseen_subjects_best() -> None:
    rng = RNG(3)
    x, asked, groups = rng.normal(size=(90, 20)), rng.normal(size=(9, 20)), np.arange(90) // 5
    fit, held = next(iter(subject_folds(groups, 90, folds=3)))
    scale = StandardScaler().fit(x[fit])
    chosen = []
    for noise in (0.0, 3.0, 100.0):
        y = x[:, :2] + noise * rng.normal(size=(90, 2))
        models = [Ridge(alpha=p * len(fit)).fit(scale.transform(x[fit]), y[fit]) for p in PENALTIES]
        errors = [((model.predict(scale.transform(x[held])) - y[held]) ** 2).sum() for model in models]
        chosen.append(PENALTIES[int(np.argmin(errors))])
        expected = ridge_predict(x, y, asked, groups, penalty=chosen[-1])
        np.testing.assert_array_equal(ridge_predict(x, y, asked, groups), expected)
    assert chosen == sorted(set(chosen)), "more noise must ask for more shrinkage"


def tissue_rows(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """(M, T) fractions of 8 subjects with 12 patches, a linear readout of them (M, D), and the subjects."""
    rng = RNG(seed)
    fractions = rng.dirichlet([1.5, 1.0, 0.4], size=96)
    return fractions, fractions @ rng.normal(size=(3, 10)), np.arange(96) // 12


def test_tissue_in_a_linear_code_is_read_off() -> None:
    fractions, features, subjects = tissue_rows()
    result = tissue_probe(features, fractions, subjects, penalty=1e-6)
    assert result["r2"] > 0.999
    assert result["balanced_accuracy"] > 0.8
    assert result["chance"] == pytest.approx(1 / 3)
    assert result["n"] == 96


def test_tissue_cannot_be_read_from_noise() -> None:
    fractions, _, subjects = tissue_rows()
    result = tissue_probe(RNG(9).normal(size=(96, 10)), fractions, subjects)
    assert -0.2 < result["r2"] < 0.1
    assert abs(result["balanced_accuracy"] - 1 / 3) < 0.15


def test_tissue_probe_equals_a_loop_over_subjects() -> None:
    fractions, features, subjects = tissue_rows(1)
    features = features + RNG(4).normal(scale=0.5, size=features.shape)
    dominant = fractions.argmax(axis=1)
    predicted, named = np.zeros_like(fractions), np.zeros(96, int)
    for subject in range(8):
        train, test = subjects != subject, subjects == subject
        scale = StandardScaler().fit(features[train])
        x, asked = scale.transform(features[train]), scale.transform(features[test])
        predicted[test] = Ridge(alpha=0.1 * 84).fit(x, fractions[train]).predict(asked)
        model = RidgeClassifier(alpha=0.1 * 84, class_weight="balanced").fit(x, dominant[train])
        named[test] = model.predict(asked)
    spread = ((fractions - fractions.mean(axis=0)) ** 2).sum()
    result = tissue_probe(features, fractions, subjects, folds=8, penalty=0.1)
    assert result["r2"] == pytest.approx(1 - ((fractions - predicted) ** 2).sum() / spread)
    assert result["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(dominant, named))
    assert 0.4 < result["balanced_accuracy"] < 0.95, "the case must hold hits and misses"


def test_across_sequences_needs_a_code_that_sequences_share() -> None:
    fractions, _, subjects = tissue_rows(2)
    rng = RNG(5)
    shared, own = rng.normal(size=(3, 10)), rng.normal(size=(4, 3, 10))
    rows = {
        "shared": np.concatenate([fractions @ shared for _ in range(4)]),
        "own": np.concatenate([fractions @ own[s] for s in range(4)]),
    }
    mix, groups, names = np.tile(fractions, (4, 1)), np.tile(subjects, 4), np.repeat(list("abcd"), 96)
    across = {
        kind: tissue_probe(x, mix, groups, names, across_sequences=True, penalty=1e-6) for kind, x in rows.items()
    }
    assert across["shared"]["r2"] > 0.999
    assert across["own"]["r2"] < 0
    assert across["own"]["balanced_accuracy"] < 0.7 < across["shared"]["balanced_accuracy"]


def test_across_sequences_asks_about_every_row_from_every_other_sequence() -> None:
    fractions, features, subjects = tissue_rows(3)
    mix, x = np.tile(fractions, (3, 1)), np.tile(features, (3, 1))
    said = predict_tissue(x, mix, np.tile(subjects, 3), np.repeat(list("abc"), 96), across_sequences=True, penalty=1.0)
    rows, counts = np.unique(said.row, return_counts=True)
    np.testing.assert_array_equal(rows, np.arange(3 * 96))
    np.testing.assert_array_equal(counts, 2)


def test_background_rows_are_left_out() -> None:
    fractions, features, subjects = tissue_rows()
    extended = np.concatenate([fractions, np.zeros((8, 3))])
    wild = np.concatenate([features, np.full((8, 10), 1e6)])
    groups = np.concatenate([subjects, np.arange(8)])
    assert tissue_probe(wild, extended, groups) == tissue_probe(features, fractions, subjects)


def test_folds_share_no_subject_and_test_every_row_once() -> None:
    groups = RNG(6).integers(0, 7, 50)
    tested = []
    for train, test in subject_folds(groups, 50, folds=5):
        assert not set(groups[train]) & set(groups[test])
        tested += list(test)
    assert sorted(tested) == list(range(50))


def test_a_tissue_that_dominates_in_one_subject_alone_is_not_scored() -> None:
    fractions, features, subjects = tissue_rows()
    alone = subjects == 3
    two = np.stack([fractions[:, 0], fractions[:, 1], np.zeros(96)], axis=1) + 1e-3
    with_third = np.where(alone[:, None], [0.1, 0.1, 0.8], two)
    scored = tissue_probe(features, with_third, subjects)
    assert scored["chance"] == pytest.approx(1 / 2)
    said = predict_tissue(features, with_third, subjects)
    rest = said.tissue != 2
    expected = balanced_accuracy_score(said.tissue[rest], np.where(said.named == 2, 1 - said.tissue, said.named)[rest])
    assert scored["balanced_accuracy"] == pytest.approx(expected)
    only_grey = tissue_probe(features, np.tile([0.6, 0.3, 0.1], (96, 1)), subjects)
    assert np.isnan(only_grey["balanced_accuracy"])
    assert np.isnan(only_grey["r2"])


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
        tissue_probe(features, np.full((96, 3), fractions), groups, across_sequences=across)
