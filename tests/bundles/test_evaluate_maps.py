"""evaluate_maps.json: the errors of maps of held-out people, and the residual that a warning should begin at."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from monai.bundle import ConfigWorkflow

from scripts.errors import find_input_error

NAMES = ["train.json", "evaluate_maps.json"]
Settings = Callable[..., dict[str, Any]]
Run = Callable[..., ConfigWorkflow]


@pytest.fixture
def trained_maps(shared: Callable[..., Path], settings_in: Settings, run_here: Run, tmp_path: Path) -> Path:
    """A training by maps.json, run once for all workers."""

    def make(folder: Path) -> Path:
        chosen = settings_in(folder, uncertainty=True, max_epochs=1, **{"validate::dataloader::batch_sampler::steps": 1})
        run_here(["train.json", "maps.json"], chosen)
        return folder

    shutil.copytree(shared("trained_maps_to_evaluate", make), tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_measures_held_out_people_into_a_table_and_the_run_of_the_training(
    trained_maps: Path,
    settings_in: Settings,
    run_here: Run,
    only_run: Callable[[Path], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = only_run(trained_maps)
    with caplog.at_level("INFO", "scripts"):
        workflow = run_here(NAMES, settings_in(trained_maps, anatomies=4, simulations=2))
    table = pd.read_csv(trained_maps / "eval" / "map_errors.csv")
    held_out = {entry["subject"] for entry in workflow.parser.get_parsed_content("data")["test"]}
    assert set(table["subject"]) <= held_out
    views = table[table["image"] == "view"]
    assert len(views) == 4 * 2
    assert (views[["error_pd", "error_r1", "error_r2star", "error_mtsat", "expected_pd"]] > 0).all().all()
    assert set(table["image"]) == {"view", "white noise", "smooth noise", "inverted contrast"}
    told = re.search(r"type --residual_limit (\d\.\d\d)", caplog.text)
    assert told is not None
    run = only_run(trained_maps)
    assert run.info.run_id == before.info.run_id
    assert run.data.metrics["maps/residual_limit"] == float(told[1])
    assert run.data.metrics["maps/error_r1"] == pytest.approx(views["error_r1"].mean())


def test_weights_without_maps_are_named(copy_of_trained: Path, settings_in: Settings, run_here: Run) -> None:
    with pytest.raises(Exception, match="map") as caught:
        run_here(NAMES, settings_in(copy_of_trained, anatomies=2))
    assert "holds no network with a head for the four maps; train one with" in str(find_input_error(caught.value))
