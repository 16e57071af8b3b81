"""The evaluation overlay: its table, its MLflow entries, and what it says without weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from monai.bundle import ConfigWorkflow

NAMES = ["train.json", "evaluate.json"]
COLUMNS = {"level", "metric", "value", "low", "high", "chance", "better", "encoder", "cohort"}


def test_measures_both_encoders_into_a_table_and_the_run_of_the_training(
    copy_of_trained: Path,
    settings_in: Callable[..., dict[str, Any]],
    run_here: Callable[..., ConfigWorkflow],
    only_run: Callable[[Path], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = copy_of_trained
    before = only_run(folder)
    with caplog.at_level("INFO", "scripts"):
        run_here(NAMES, settings_in(folder, anatomies=12, dense_levels=[-1, -2]))
    table = pd.read_csv(folder / "eval" / "invariance.csv")
    assert set(table.columns) >= COLUMNS
    assert set(table["encoder"]) == {"pretrained", "random"}
    assert set(table["cohort"]) == {"embedded"}
    assert set(table["level"]) == {"pooled", "dense", "dense, level -2"}
    assert set(table["better"]) == {"higher", "lower"}
    assert not table.duplicated(["encoder", "level", "metric"]).any()
    # three held-out subjects are few, and a probe that cannot be fitted is NaN; the other measures never are
    others = table.loc[~table["metric"].str.startswith("tissue"), ["value", "low", "high", "chance"]]
    assert np.isfinite(others.to_numpy()).all()
    known = table.dropna(subset="value")
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    shares = known[known["metric"].isin(["retrieval_top1", "sequence_probe"])]
    assert shares["value"].between(0, 1).all()
    assert (shares.loc[shares["metric"] == "sequence_probe", "chance"] == 1 / 5).all()

    run = only_run(folder)
    assert (run.info.run_id, run.info.status) == (before.info.run_id, "FINISHED")
    assert run.data.tags == {**before.data.tags, "evaluated": "yes"}
    row = table.set_index(["encoder", "level", "metric"]).loc[("random", "dense, level -2", "alignment")]
    assert run.data.metrics["invariance/random/dense level -2/alignment"] == pytest.approx(row["value"])
    assert "Measuring invariance on 3 held-out subjects (embedded cohort)" in caplog.text
    assert "12 anatomies of 3 held-out subjects" in caplog.text


def test_only_held_out_subjects_are_measured(
    trained: dict[str, Any], settings_in: Callable[..., dict[str, Any]], workflow_of: Callable[..., ConfigWorkflow]
) -> None:
    workflow = workflow_of(NAMES, settings_in(trained["folder"], anatomies=4))
    workflow.initialize()
    data = workflow.parser.get_parsed_content("data")
    measured = {subject for batch in workflow.evaluator.data_loader for subject in batch["subject"]}
    assert measured
    assert measured <= {entry["subject"] for entry in data["test"]}
    assert measured.isdisjoint(entry["subject"] for part in ("training", "validation") for entry in data[part])


def test_without_weights_it_names_the_command_that_makes_them(
    tmp_path: Path, settings_in: Callable[..., dict[str, Any]], refusal: Callable[..., str]
) -> None:
    line = refusal(NAMES, settings_in(tmp_path))
    assert str(tmp_path / "models" / "model.pt") in line
    assert "python -m monai.bundle run --config_file bundles/pretrain_seqinv/configs/train.json" in line
    assert list(tmp_path.iterdir()) == []


def test_unknown_sequence_is_refused(
    trained: dict[str, Any], settings_in: Callable[..., dict[str, Any]], refusal: Callable[..., str]
) -> None:
    line = refusal(NAMES, settings_in(trained["folder"], evaluated_sequences=["MPRAGE", "T9w"]))
    assert "T9w" in line
    assert "FLAIR" in line
