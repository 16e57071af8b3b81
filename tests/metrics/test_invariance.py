from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from scripts.errors import InputError
from scripts.metrics.bootstrap import bootstrap_weights
from scripts.metrics.invariance import (
    COLUMNS,
    Cells,
    alignment,
    corresponding_cells,
    invariance_table,
    retrieval_top1,
    sequence_probe,
    tissue_probe,
    uniformity,
)
from scripts.metrics.probes import predict_tissue

SEQUENCES = ["mprage", "fse", "flair"]


@pytest.fixture
def tissue() -> NDArray[np.float64]:
    return np.random.default_rng(7).dirichlet([1.0, 1.0, 0.7], size=12)


def make_table(pooled: object, subjects: list[str], **options: object) -> pd.DataFrame:
    table = invariance_table(pooled, subjects=subjects, sequences=SEQUENCES, resamples=200, **options)  # type: ignore[arg-type]
    return table.set_index(["level", "metric"])


def test_values_are_those_of_the_measures(
    features: NDArray[np.float64], subjects: list[str], tissue: NDArray[np.float64]
) -> None:
    table = make_table(features, subjects, tissue=tissue).loc["pooled"]
    rows, mix = features.reshape(36, 5), np.repeat(tissue, 3, axis=0)
    groups, names = np.repeat(subjects, 3), np.tile(np.arange(3), 12)
    within = tissue_probe(rows, mix, groups)
    across = tissue_probe(rows, mix, groups, names, across_sequences=True)
    expected = {
        "retrieval_top1": retrieval_top1(features),
        "alignment": alignment(features),
        "uniformity": uniformity(features),
        "sequence_probe": sequence_probe(features, subjects),
        "tissue_probe": within["balanced_accuracy"],
        "tissue_r2": within["r2"],
        "tissue_probe_across_sequences": across["balanced_accuracy"],
        "tissue_r2_across_sequences": across["r2"],
    }
    assert set(table.index) == set(expected)
    for metric, value in expected.items():
        assert table.loc[metric, "value"] == pytest.approx(value), metric
    assert (table["low"] <= table["high"]).all()
    assert (table["n"] == 12).all()
    assert table.loc["retrieval_top1", "chance"] == pytest.approx(1 / 12)
    assert table.loc["sequence_probe", "chance"] == pytest.approx(1 / 3)
    assert table.loc["tissue_probe", "chance"] == pytest.approx(within["chance"])


def test_intervals_hold_the_value_and_shrink_with_more_subjects() -> None:
    def width(n: int) -> pd.Series:
        rng = np.random.default_rng(0)
        features = rng.normal(size=(n, 1, 6)) + 0.7 * rng.normal(size=(n, 3, 6))
        mix = rng.dirichlet([1.0, 1.0, 1.0], size=n)
        table = make_table(features, [f"s{k}" for k in range(n)], tissue=mix).loc["pooled"]
        inside = table["low"].le(table["value"] + 1e-9) & table["high"].ge(table["value"] - 1e-9)
        assert inside.all(), table
        return table["high"] - table["low"]

    few, many = width(12), width(108)
    for metric in ("retrieval_top1", "alignment", "uniformity", "sequence_probe", "tissue_probe"):
        assert many[metric] < 0.7 * few[metric], metric


def test_intervals_equal_a_naive_resampling(
    features: NDArray[np.float64], subjects: list[str], tissue: NDArray[np.float64]
) -> None:
    table = invariance_table(features, subjects=subjects, sequences=SEQUENCES, tissue=tissue, resamples=30, seed=5)
    table = table.set_index("metric")
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    said = predict_tissue(features.reshape(36, 5), np.repeat(tissue, 3, axis=0), np.repeat(subjects, 3))
    draws: dict[str, list[float]] = {"uniformity": [], "tissue_r2": [], "tissue_probe": []}
    for weights in bootstrap_weights(6, resamples=30, seed=5).astype(int):
        drawn = [f"sub-{k:03d}" for k in np.repeat(np.arange(6), weights)]
        anatomies = [a for name in drawn for a in range(12) if subjects[a] == name]
        logs = []
        for s in range(3):
            energies = [
                math.exp(-2 * math.dist(unit[a, s], unit[b, s]) ** 2) for a in anatomies for b in anatomies if a != b
            ]
            logs.append(math.log(sum(energies) / len(energies)))
        draws["uniformity"].append(sum(logs) / 3)
        rows = np.array([r for name in drawn for r in np.flatnonzero(said.subject == name)])
        truth, mean = said.truth[rows], said.truth.mean(axis=0)
        draws["tissue_r2"].append(1 - ((truth - said.predicted[rows]) ** 2).sum() / ((truth - mean) ** 2).sum())
        if len(np.unique(said.tissue[rows])) == len(np.unique(said.tissue)):
            draws["tissue_probe"].append(balanced_accuracy_score(said.tissue[rows], said.named[rows]))
    for metric, values in draws.items():
        expected = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose(table.loc[metric, ["low", "high"]].astype(float), expected, err_msg=metric)


def test_better_and_worse_encoders_are_told_apart(subjects: list[str], tissue: NDArray[np.float64]) -> None:
    rng = np.random.default_rng(11)
    code = np.repeat(tissue @ rng.normal(size=(3, 6)), 1, axis=0)[:, None]
    invariant = code + 0.01 * rng.normal(size=(12, 3, 6))
    contrast = 0.1 * code + rng.normal(size=(1, 3, 6)) + 0.01 * rng.normal(size=(12, 3, 6))
    good, bad = (make_table(x, subjects, tissue=tissue).loc["pooled"] for x in (invariant, contrast))
    for metric in (
        "retrieval_top1",
        "alignment",
        "uniformity",
        "sequence_probe",
        "tissue_r2_across_sequences",
    ):
        gain = good.loc[metric, "value"] - bad.loc[metric, "value"]
        assert gain * (1 if good.loc[metric, "better"] == "higher" else -1) > 0, metric


def test_accuracy_intervals_use_draws_with_every_tissue() -> None:
    # white matter dominates in two of six subjects: many draws lack it, and must not score as if it were easy
    rng = np.random.default_rng(8)
    mix = np.tile([0.7, 0.2, 0.1], (12, 1))
    mix[[0, 2]] = [0.2, 0.7, 0.1]
    subjects = [f"s{k // 2}" for k in range(12)]
    table = make_table(rng.normal(size=(12, 3, 4)), subjects, tissue=mix).loc["pooled"]
    row = table.loc["tissue_probe"]
    grey_alone = 1.0
    assert row["chance"] == pytest.approx(0.5)
    assert row["low"] <= row["value"] <= row["high"] < grey_alone
    alike = make_table(rng.normal(size=(12, 3, 4)), subjects, tissue=np.tile([0.7, 0.2, 0.1], (12, 1))).loc["pooled"]
    assert alike.loc["tissue_probe", ["value", "low", "high"]].isna().all()


def test_dense_level_looks_for_the_same_cell(features: NDArray[np.float64], subjects: list[str]) -> None:
    rng = np.random.default_rng(5)
    place = rng.normal(size=(12, 1, 8, 10))
    dense = torch.from_numpy(np.repeat(place, 3, axis=1))
    brain = rng.random((12, 10)) > 0.3
    cells = corresponding_cells(dense, subjects, brain=brain, max_cells=40)
    table = invariance_table(features, cells, subjects=subjects, sequences=SEQUENCES, resamples=50)
    assert tuple(table.columns) == COLUMNS
    dense_rows = table[table["level"] == "dense"].set_index("metric")
    assert dense_rows.loc["retrieval_top1", "value"] == 1.0
    assert dense_rows.loc["retrieval_top1", "chance"] == pytest.approx(1 / 40)
    assert dense_rows.loc["alignment", "value"] == pytest.approx(0, abs=1e-12)
    assert (dense_rows["n"] == 40).all()
    assert len(table) == 8


def test_corresponding_cells_keep_place_subject_and_tissue_together() -> None:
    a, s, c, m = 5, 3, 2, 7
    anatomy, sequence, channel, cell = np.indices((a, s, c, m))
    dense = (1000 * anatomy + 100 * sequence + 10 * channel + cell).astype(np.float32)
    tissue = np.zeros((a, 3, m))
    tissue[:, 1, 2:] = 1.0 + np.indices((a, m - 2)).sum(axis=0)
    names = [f"s{k}" for k in range(a)]
    for given in (dense, torch.from_numpy(dense)):
        cells = corresponding_cells(given, names, tissue=tissue, max_cells=11, seed=2)
        assert cells.features.shape == (11, 3, 2)
        places = []
        for row, name, mix in zip(cells.features, cells.subjects, cells.tissue, strict=True):  # type: ignore[arg-type]
            who, where = int(row[0, 0]) // 1000, int(row[0, 0]) % 10
            np.testing.assert_array_equal(row, dense[who, :, :, where])
            np.testing.assert_array_equal(mix, tissue[who, :, where])
            assert (name, where >= 2) == (f"s{who}", True)
            places.append((who, where))
        assert all(before < after for before, after in pairwise(places))
    everything = corresponding_cells(dense, names, tissue=tissue, max_cells=None)
    assert len(everything.features) == a * (m - 2)


def test_one_subject_is_refused() -> None:
    with pytest.raises(InputError, match="evaluate at least 2"):
        make_table(np.random.default_rng(0).normal(size=(4, 3, 2)), ["one"] * 4)


def test_a_whole_evaluation_is_quick_and_seeded(features: NDArray[np.float64], subjects: list[str]) -> None:
    cells = Cells(np.tile(features, (4, 1, 1)), np.tile(subjects, 4))
    first, second = (make_table(features, subjects, dense=cells) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert math.isfinite(first["value"].sum())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sequences": ["mprage", "fse"]}, "need 12 subjects and 3 sequence names, got 12 and 2"),
        ({"subjects": ["a", "b"]}, "got 2 and 3"),
        ({"pooled": np.full((12, 3, 5), np.inf)}, "180 feature values are NaN or Inf"),
    ],
    ids=["sequences", "subjects", "inf"],
)
def test_bad_input_is_refused(
    features: NDArray[np.float64], subjects: list[str], change: dict[str, object], match: str
) -> None:
    given = {"pooled": features, "subjects": subjects, "sequences": SEQUENCES} | change
    with pytest.raises(InputError, match=match):
        invariance_table(**given)  # type: ignore[arg-type]


def test_bad_dense_maps_are_refused() -> None:
    with pytest.raises(InputError, match=r"dense must be \(A, S, C, M\)"):
        corresponding_cells(np.zeros((2, 3, 4)), ["a", "b"])
    with pytest.raises(InputError, match=r"tissue must be \(A, T, M\)"):
        corresponding_cells(np.zeros((2, 3, 4, 5)), ["a", "b"], tissue=np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match="only 0 cells hold brain"):
        corresponding_cells(np.zeros((2, 3, 4, 5)), ["a", "b"], tissue=np.zeros((2, 3, 5)))
