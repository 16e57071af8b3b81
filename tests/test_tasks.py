from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.bundles import BUNDLES, ROOT
from scripts.data import ixi
from scripts.experiment.figures.palette import MODALITY_COLOURS, SITE_COLOURS
from scripts.experiment.grid.presets import PRESETS, load_preset
from scripts.experiment.results.wording import MODALITIES, SITES, in_order
from scripts.metrics.denoising_scores import DENOISING_METRICS
from scripts.metrics.segmentation_scores import SEGMENTATION_METRICS
from scripts.tasks import LAYOUTS, PRETRAIN, SYNTHETIC, TASKS, Task, bundle_of, bundles_on, task_title
from scripts.variants import ENCODERLESS, PRETRAINED, VARIANTS, variant_order
from scripts.views.ranges import MODES

each_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def entries(content: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every key in a config with its value and the dict that it stands in."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key, value, content
            yield from entries(value)
    elif isinstance(content, list):
        for part in content:
            yield from entries(part)


def configs(task: Task) -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text()) for path in (BUNDLES / task.name / "configs").glob("*.json")}


def is_plain(value: Any) -> bool:
    return not isinstance(value, str) or value[:1] not in ("@", "$", "%")


class TestBundlesAgree:
    @each_task
    def test_classes_dataset_and_names(self, task: Task) -> None:
        found: dict[str, list[Any]] = {"classes": [], "layout": [], "modality": [], "task": []}
        for name, content in configs(task).items():
            for key, value, _ in entries(content if name != "metadata" else {}):
                if key in found and is_plain(value) and value is not None:
                    found[key].append(value)
        names = {str(value): name for value, name in task.classes.items()}
        assert all(classes == names for classes in found["classes"])
        assert len(found["classes"]) == (2 if names else 0)  # of training and of inference
        assert set(found["layout"]) == {task.layout}
        assert found["modality"]
        assert set(found["modality"]) - {SYNTHETIC} <= set(task.modalities)
        assert set(found["task"]) <= {task.name}

    @each_task
    def test_cases_are_ranked_by_the_headline(self, task: Task) -> None:
        kept = [own for _, value, own in entries(configs(task)["evaluate"]) if "KeepCases" in str(value)]
        assert {own["metric"] for own in kept if "metric" in own} == {task.headline.name}

    @each_task
    def test_metadata(self, task: Task) -> None:
        metadata = configs(task)["metadata"]
        assert metadata["label_classes"] == (", ".join(task.classes.values()) or "none")
        channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        names = {"0": "background", **{str(value): name for value, name in task.classes.items()}}
        assert channels == (names if task.labels else {"0": "noise"})


@each_task
def test_metrics_are_measured(task: Task) -> None:
    measured = SEGMENTATION_METRICS if task.labels else DENOISING_METRICS
    assert {metric.name for metric in (*task.metrics, task.alone)} <= set(measured)
    assert task.scored in (*task.classes.values(), "all" if task.labels else "image")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_know_the_same_tasks_and_variants(name: str) -> None:
    preset = load_preset(name)
    assert list(preset.tasks) == [task for task in TASKS if task in preset.tasks]
    for task, part in preset.tasks.items():
        assert set(part.modalities) <= set(TASKS[task].modalities)
    assert set(preset.variants) <= {*VARIANTS, *preset.recipes}
    assert {recipe.encoder for recipe in preset.recipes.values()} <= {*VARIANTS, *preset.study}
    assert not set(preset.study) & set(VARIANTS)


def test_datasets_and_bundles() -> None:
    assert [bundle_of(task) for task in LAYOUTS] == ["pretrain_seqinv", *TASKS]
    assert all((BUNDLES / bundle_of(task)).is_dir() for task in LAYOUTS)
    assert (bundles_on("ixi"), bundles_on("qmri")) == (["ixi_seg", "ixi_denoise"], ["pretrain_seqinv"])
    assert [task_title(name) for name in (PRETRAIN, "ixi_seg", "mine")] == ["Pretraining", "Brain tissue (IXI)", "mine"]


def test_labels_of_a_task_differ_in_colour() -> None:
    for task in TASKS.values():
        assert len({label.colour for label in task.labels}) == len(task.labels)
        assert [label.value for label in task.labels] == list(range(1, len(task.labels) + 1))


def test_modalities_and_sites_are_those_of_the_data_and_of_the_figures() -> None:
    assert set(MODALITIES) == {name for task in TASKS.values() for name in task.modalities} == set(MODALITY_COLOURS)
    assert tuple(ixi.MODALITIES) == TASKS["ixi_seg"].modalities == TASKS["ixi_denoise"].modalities
    assert {*ixi.SITES, "ARC"} == set(SITES) == set(SITE_COLOURS)
    assert in_order(["x", "PDw", "T1w", "a"], MODALITIES) == ["T1w", "PDw", "a", "x"]


def test_variants() -> None:
    assert PRETRAINED == MODES
    assert [*PRETRAINED, *ENCODERLESS] == list(VARIANTS)
    assert dict(ENCODERLESS) == {"random": "random", "scratch": "none"}
    assert variant_order(["zz", "scratch", "seqinv-x", "base"]) == ["base", "scratch", "seqinv-x", "zz"]


def test_records_load_nothing_heavy() -> None:
    heavy = "{'torch', 'monai', 'numpy', 'pandas', 'scipy', 'matplotlib'}"
    code = f"import sys, scripts.tasks, scripts.variants; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(ROOT))
    assert done.stdout.strip() == "[]"
