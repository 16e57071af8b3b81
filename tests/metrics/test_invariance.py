from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from scripts.errors import InputError
from scripts.metrics.bootstrap import bootstrap_weights
from scripts.metrics.brain_cells import Cells, sample_cells
from scripts.metrics.invariance import COLUMNS, invariance_table
from scripts.metrics.probes import balanced_accuracy, predict_tissue, r_squared, sequence_probe_hits, squared_errors
from scripts.metrics.retrieval import retrieval_hits
from scripts.metrics.sphere import alignment_by_anatomy, uniformity

SEQUENCES = ["mprage", "fse", "flair"]


@pytest.fixture
def tissue() -> NDArray[np.float64]:
    return np.random.default_rng(7).dirichlet([1.0, 1.0, 0.7], size=12)


def make_table(pooled: object, subjects: list[str], **options: object) -> pd.DataFrame:
    table = invariance_table(pooled, subjects=subjects, sequences=SEQUENCES, **options)  # type: ignore[arg-type]
    return table.set_index(["level", "metric"])


def test_values_are_those_of_the_measures(
    features: NDArray[np.float64], subjects: list[str], tissue: NDArray[np.float64]
) -> None:
    table = make_table(features, subjects, tissue=tissue).loc["pooled"]
    rows, mix = features.reshape(36, 5), np.repeat(tissue, 3, axis=0)
    groups, names = np.repeat(subjects, 3), np.tile(np.arange(3), 12)
    within, across = (predict_tissue(rows, mix, groups, names, across_sequences=flag) for flag in (False, True))
    expected = {
        "retrieval_top1": np.nanmean(retrieval_hits(features)),
        "alignment": alignment_by_anatomy(features).mean(),
        "uniformity": uniformity(features),
        "sequence_probe": sequence_probe_hits(features, subjects).mean(),
        "tissue_probe": balanced_accuracy(within),
        "tissue_r2": r_squared(squared_errors(within).sum(axis=0)),
        "tissue_probe_across_sequences": balanced_accuracy(across),
        "tissue_r2_across_sequences": r_squared(squared_errors(across).sum(axis=0)),
    }
    assert set(table.index) == set(expected)
    for metric, value in expected.items():
        assert table.loc[metric, "value"] == pytest.approx(value), metric
    assert (table["low"] <= table["high"]).all()
    assert (table["n"] == 12).all()
    assert table.loc["retrieval_top1", "chance"] == pytest.approx(1 / 12)
    assert table.loc["sequence_probe", "chance"] == pytest.approx(1 / 3)
    assert table.loc["tissue_probe", "chance"] == pytest.approx(1 / 3)


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
    table = make_table(features, subjects, tissue=tissue).loc["pooled"]
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    energy = [[[math.exp(-2 * math.dist(a, b) ** 2) for b in unit[:, s]] for a in unit[:, s]] for s in range(3)]
    groups, names = np.repeat(subjects, 3), np.tile(np.arange(3), 12)
    said = predict_tissue(features.reshape(36, 5), np.repeat(tissue, 3, axis=0), groups, names, across_sequences=False)
    labels, mean = np.unique(said.tissue), said.truth.mean(axis=0)
    draws: dict[str, list[float]] = {"uniformity": [], "tissue_r2": [], "tissue_probe": []}
    for weights in bootstrap_weights(6, resamples=1000).astype(int):
        drawn = [f"sub-{k:03d}" for k in np.repeat(np.arange(6), weights)]
        anatomies = [a for name in drawn for a in range(12) if subjects[a] == name]
        logs = []
        for of_sequence in energy:
            energies = [of_sequence[a][b] for a in anatomies for b in anatomies if a != b]
            logs.append(math.log(sum(energies) / len(energies)))
        draws["uniformity"].append(sum(logs) / 3)
        rows = np.array([r for name in drawn for r in np.flatnonzero(said.subject == name)])
        truth = said.truth[rows]
        draws["tissue_r2"].append(1 - ((truth - said.predicted[rows]) ** 2).sum() / ((truth - mean) ** 2).sum())
        if len(np.unique(said.tissue[rows])) == len(labels):
            draws["tissue_probe"].append(
                np.mean([(said.named[rows][said.tissue[rows] == label] == label).mean() for label in labels])
            )
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
    place = np.repeat(rng.normal(size=(40, 1, 8)), 3, axis=1)
    cells = Cells(place, np.repeat(subjects, 4)[:40])
    table = invariance_table(features, cells, subjects=subjects, sequences=SEQUENCES)
    assert tuple(table.columns) == COLUMNS
    dense_rows = table[table["level"] == "dense"].set_index("metric")
    assert dense_rows.loc["retrieval_top1", "value"] == 1.0
    assert dense_rows.loc["retrieval_top1", "chance"] == pytest.approx(1 / 40)
    assert dense_rows.loc["alignment", "value"] == pytest.approx(0, abs=1e-12)
    assert (dense_rows["n"] == 40).all()
    assert len(table) == 8


def test_sampled_cells_keep_place_and_tissue_together() -> None:
    s, c, grid = 3, 2, (2, 3, 4)
    sequence, channel, cell = np.indices((s, c, 24))
    dense = torch.from_numpy(100 * sequence + 10 * channel + cell / 100).float().view(s, c, *grid)
    # cells of 2 x 2 x 2 voxels; of cell k, 2 or 6 voxels are brain, and all of them of one tissue
    kinds = torch.arange(24).view(grid)
    mostly = kinds % 4 != 3
    r1 = torch.tensor([0.62, 0.95, 0.24])[kinds % 3]
    voxels = (torch.arange(8) < torch.where(mostly, 6, 2)[..., None]).view(*grid, 2, 2, 2)
    pd = voxels.permute(0, 3, 1, 4, 2, 5).reshape(4, 6, 8) * 80.0
    maps = torch.stack([pd, r1.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)])
    features, tissue = sample_cells(dense, maps, 11, torch.Generator().manual_seed(0))
    assert features.shape == (11, s, c)
    places = (features[:, 0, 0] * 100).round().long()
    assert len(set(places.tolist())) == 11
    for place, feature, mix in zip(places.tolist(), features, tissue, strict=True):
        assert place % 4 != 3
        torch.testing.assert_close(feature, dense.flatten(2)[:, :, place])
        assert mix.tolist() == [float(place % 3 == tissue) for tissue in range(3)]
    assert len(sample_cells(dense, maps, 99, torch.Generator())[0]) == 18


def test_one_subject_is_refused() -> None:
    with pytest.raises(InputError, match="evaluate at least 2"):
        make_table(np.random.default_rng(0).normal(size=(4, 3, 2)), ["one"] * 4)


def test_a_whole_evaluation_is_the_same_at_every_call(features: NDArray[np.float64], subjects: list[str]) -> None:
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
