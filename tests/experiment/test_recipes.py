"""Recipes in a real grid of tiny runs, and the scores of their networks across contrasts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.errors import InputError
from scripts.experiment.grid.cells import Choice
from scripts.experiment.grid.presets import Preset, Recipe, TaskGrid, load_preset, with_label_maps
from scripts.experiment.launch.execute import commands, is_finished
from scripts.experiment.launch.run_grid import plan, run_grid
from scripts.experiment.results.across import OTHERS, across_scores
from scripts.experiment.results.collect import KEYS, Results, collect
from scripts.experiment.tables.across import across_differences, across_table
from scripts.handlers.mlflow_store import open_store

TINY = Path(__file__).with_name("tiny.json")


@pytest.fixture
def preset() -> Preset:
    """Two recipes with a U-Net of map regression: trained on simulated contrasts, and frozen but for a last layer."""
    tiny = load_preset(TINY)
    task = tiny.tasks["ixi_seg"]
    linear = {"encoder_part": "decoder", "freeze": True, "freeze_decoder": True}
    tuned = {"encoder": "pretrained", "encoder_part": "decoder", "freeze": False, "batch_size": 1}
    return replace(
        tiny,
        variants=("maps-simulated", "maps-linear"),
        tasks={"ixi_seg": replace(task, tested_on=("T1w", "T2w"))},
        study={"seqinv-maps": TaskGrid(configs=("maps.json",), settings={"max_epochs": 1, "n_views": 2})},
        recipes={
            "maps-simulated": Recipe("on simulations", "seqinv-maps", ("synthetic.json",), tuned, simulated=True),
            "maps-linear": Recipe("a last convolution", "seqinv-maps", settings=linear),
        },
    )


def test_recipes_are_tested_on_every_contrast(
    preset: Preset, tmp_path: Path, small_cohorts: dict[str, Path], forked_processes: None
) -> None:
    for layout, name in (("qmri", "qmri-subjects10-spacing4"), ("ixi", "ixi-guys5-hh1-iop1-spacing4")):
        shutil.copytree(small_cohorts[layout], tmp_path / "data" / name)
    jobs = plan(preset, Choice(), tmp_path)
    assert [job.cell.variant for job in jobs] == ["seqinv-maps", "maps-simulated", "maps-linear"]
    outcome = run_grid(jobs, preset)
    assert outcome.failed == {}
    client = open_store(jobs[0].place.uri)
    assert all(is_finished(job, client) for job in jobs)
    results = collect("tiny", jobs[0].place.uri)
    assert results.recipes == {"maps-simulated": "on simulations", "maps-linear": "a last convolution"}
    assert set(results.scores["variant"]) == {"maps-simulated", "maps-linear"}
    assert set(results.scores["modality"]) == {"T1w"}
    found = results.across.groupby(["variant", "modality", "tested"]).size()
    assert set(found.index) == {(v, "T1w", t) for v in ("maps-simulated", "maps-linear") for t in ("T1w", "T2w")}
    # on its own modality a network has the scores of its own evaluation
    keys = [*KEYS, "subject", "class", "metric"]
    own = results.across[results.across["tested"] == "T1w"].merge(results.scores, on=keys, suffixes=("", "_own"))
    assert len(own) == len(results.scores)
    np.testing.assert_array_equal(own["value"], own["value_own"])
    trained = json.loads((jobs[1].place.folder(jobs[1].name) / "cell.json").read_text())
    assert trained["configs"] == ["demo.json", "synthetic.json"]
    table = across_table(results)
    assert table.columns == ("tested on", "T1w", "T2w")
    assert [row.label for row in table.rows] == [
        "Brain tissue (IXI): labels on T1w, 1% labels",
        "Maps, linear",
        "Maps, simulated",
    ]
    assert "Maps, simulated: on simulations" in table.caption
    # what a user types for the second: training on maps, tests on images
    training, first, second = commands(jobs[1])
    assert "--modality synthetic" in training
    assert "qmri-subjects10" in training
    assert "synthetic.json" in training
    for line, modality in ((first, "T1w"), (second, "T2w")):
        assert f"--modality {modality}" in line
        assert "ixi-guys5" in line
        assert "synthetic.json" not in line


def test_images_and_simulations_together_are_given_both_data(preset: Preset, tmp_path: Path) -> None:
    words = ("in turn", "scratch", ("mixed.json",))
    mixed = replace(preset, variants=("mixed",), recipes={"mixed": Recipe(*words, {"n_views": 2}, simulated=True)})
    (job,) = plan(mixed, Choice(), tmp_path)
    training, first, second = commands(job)
    assert "--modality T1w" in training
    assert "'bundles/ixi_seg/configs/mixed.json'" in training
    for option, data in (("dataset_dir", "ixi-guys5"), ("maps_dir", "qmri-subjects10")):
        assert f"{data}" in training.split(f"--{option} ")[1].split(" --")[0]
    assert "--modality T1w" in first
    assert "--modality T2w" in second


def made_up(values: dict[tuple[str, str, int], float], seeds: int = 1) -> Results:
    """Scores of three subjects about a level, by variant, tested modality and seed."""
    rows = []
    for (variant, tested, seed), level in values.items():
        for n in range(3):
            own: dict[str, Any] = dict(zip(KEYS, ("ixi_seg", variant, "T1w", 0.05, seed, "embedded"), strict=True))
            for tissue, shift in (("a", -0.1), ("b", 0.1)):
                row = {"subject": f"s{n}", "site": "Guys", "class": tissue, "metric": "DSC"}
                rows.append({**own, **row, "tested": tested, "value": level + shift + 0.01 * n})
    none = pd.DataFrame()
    return Results("g", "sqlite:///x.db", none, none, none, none, none, none, across=pd.DataFrame(rows))


def test_means_and_differences_are_those_of_the_subjects() -> None:
    levels = {("scratch", "T1w", 0): 0.8, ("scratch", "T2w", 0): 0.1, ("scratch", "FLAIR", 0): 0.3}
    levels |= {("maps-tuned", "T1w", 0): 0.85, ("maps-tuned", "T2w", 0): 0.5, ("maps-tuned", "FLAIR", 0): 0.5}
    (own,) = across_scores(made_up(levels))
    assert own.tested == ["T1w", "T2w", "FLAIR", OTHERS]
    means = own.means().set_index(["variant", "tested"])["mean"]
    assert means["scratch", "T1w"] == pytest.approx(81.0)
    assert means["scratch", OTHERS] == pytest.approx(21.0)
    differences = own.differences("scratch").set_index(["variant", "tested"])
    assert differences.loc[("maps-tuned", OTHERS), "difference"] == pytest.approx(30.0)
    assert (differences["n"] == 3).all()
    assert differences["p"].notna().all()


def test_repeated_trainings_give_intervals_over_the_seeds() -> None:
    gains = {0: 0.05, 1: 0.06, 2: 0.04}
    levels = {("scratch", "T1w", seed): 0.5 + 0.1 * seed for seed in gains}
    levels |= {("maps-tuned", "T1w", seed): 0.5 + 0.1 * seed + gain for seed, gain in gains.items()}
    (own,) = across_scores(made_up(levels))
    (row,) = own.differences("scratch").to_dict("records")
    # the paired t interval of 5, 6 and 4: 5 -+ t(0.975, 2) * 1 / sqrt(3)
    assert row["difference"] == pytest.approx(5.0)
    assert row["high"] - row["difference"] == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)
    assert row["n"] == 3
    table = across_differences(made_up(levels))
    assert table.rows[1].cells[0].rank == 1
    assert "3 seeds" in table.caption


def test_nothing_across_gives_no_table() -> None:
    none = pd.DataFrame()
    nothing = Results("g", "sqlite:///x.db", none, none, none, none, none, none)
    assert across_table(nothing).frame.empty
    assert across_differences(nothing).frame.empty


class TestLabelMaps:
    def test_every_cohort_is_made_of_them_and_cells_get_other_names(self, tmp_path: Path) -> None:
        mini = load_preset("mini")
        made = with_label_maps(mini, str(tmp_path))
        assert made.cohorts is not None
        assert {own["label_maps"] for own in made.cohorts.values()} == {str(tmp_path)}
        assert made.cohorts["qmri"]["whole_heads"] is True
        jobs, before = (plan(grid, Choice(seeds=[0]), tmp_path / "out") for grid in (made, mini))
        assert not {job.name for job in jobs} & {job.name for job in before}
        assert not set(jobs[0].place.data.values()) & set(before[0].place.data.values())
        assert with_label_maps(mini, None) is mini

    def test_folders_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"--label_maps .*gone is no folder"):
            with_label_maps(load_preset("mini"), str(tmp_path / "gone"))
        with pytest.raises(InputError, match="--lesions are for heads from label maps"):
            with_label_maps(load_preset("mini"), None, str(tmp_path))
        with pytest.raises(InputError, match="the preset paper is for real data"):
            with_label_maps(load_preset("paper"), str(tmp_path))
