"""The three tasks are one bundle but for what is named here: who edits one has to edit all, or to say why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIRST, *OTHERS = TASKS = ("ixi_seg", "arc_lesion", "ixi_denoise")
ALL = ("pretrain_seqinv", *TASKS)
FILES = (
    *("train.json", "evaluate.json", "inference.json", "demo.json", "released.json"),
    *("multi_gpu_train.json", "metadata.json"),
)


@dataclass(frozen=True)
class Difference:
    """Where a task's config may differ from that of `FIRST`: ids with ``*`` for anything, and what it is for."""

    task: str
    why: str
    ids: dict[str, tuple[str, ...]]


DIFFERENCES = (
    Difference(
        "arc_lesion",
        "its name and what it says of itself",
        {
            "train.json": ("_desc_", "task", "title"),
            "inference.json": ("_desc_", "task"),
            "metadata.json": ("changelog::0.1.0", "name", "task", "description", "data_source", "references"),
        },
    ),
    Difference(
        "arc_lesion",
        "one class, which is rare: weighted, and drawn more often",
        {
            "train.json": ("classes::*", "class_weight", "sampling"),
            "inference.json": ("classes::*",),
            "demo.json": ("class_weight", "sampling"),
            "metadata.json": (
                *("label_classes", "pred_classes", "network_data_format::outputs::pred::num_channels"),
                "network_data_format::outputs::pred::channel_def::*",
            ),
        },
    ),
    Difference(
        "arc_lesion",
        "another dataset: lesions show on T2w, masks lie on grids of their own, images of one modality are split alone",
        {
            "train.json": (
                *("modality", "embedded::*", "split_over", "training_site", "data::layout", "data::split_over"),
                "data::training_site",
                *(f"train::deterministic_transforms::LoadLabelsd::{name}" for name in ("resample", "required")),
            ),
            "evaluate.json": ("validate::preprocessing::transforms::LoadLabelsd::resample",),
            "demo.json": ("embedded::*",),
        },
    ),
    Difference(
        "ixi_denoise",
        "its name and what it says of itself",
        {
            "train.json": ("_desc_", "task", "title"),
            "evaluate.json": ("_desc_",),
            "inference.json": ("_desc_", "task"),
            "metadata.json": ("changelog::0.1.0", "name", "task", "description"),
        },
    ),
    Difference(
        "ixi_denoise",
        "no labels: patches are drawn from the foreground",
        {
            "train.json": (
                *("classes::*", "class_weight", "sampling", "data::labels"),
                "train::deterministic_transforms::LoadLabelsd::*",
                "train::deterministic_transforms::ResampleToMatchd::*",
                "train::deterministic_transforms::NormaliseForegroundd::others",
                *(f"train::deterministic_transforms::ClassesToIndicesd::{name}" for name in ("keys", "num_classes")),
                "train::deterministic_transforms::SelectItemsd::keys",
                "train::random_transforms::*::keys",
                "train::random_transforms::RandAffined::mode",
                *(
                    f"train::random_transforms::RandCropByLabelClassesd::{name}"
                    for name in ("label_key", "num_classes", "indices_key")
                ),
                "settings::knobs",
            ),
            "evaluate.json": (
                *(f"validate::preprocessing::transforms::{name}::*" for name in ("LoadLabelsd", "CopyItemsd")),
                "validate::preprocessing::transforms::DeleteItemsd::*",
                "validate::handlers::OverlayPictures::classes",
            ),
            "inference.json": ("probabilities", "classes::*", "with_probabilities::*"),
            "demo.json": ("sampling",),
            "metadata.json": ("label_classes",),
        },
    ),
    Difference(
        "ixi_denoise",
        "noise is added, the same to all networks in tests, and nothing else that changes intensities",
        {
            "train.json": (
                *("noise", "test_noise_seed", "intensity_probability", "settings::more::augmentation"),
                *(f"train::random_transforms::Rand{name}::*" for name in ("GaussianSmoothd", "AdjustContrastd")),
                *(f"train::random_transforms::Rand{name}::*" for name in ("ScaleIntensityd", "ShiftIntensityd")),
                *(f"train::random_transforms::{name}::*" for name in ("RandGaussianNoised", "AddNoised")),
                *("validate::deterministic_transforms", "validate::preprocessing::transforms", "validate::noise::*"),
            ),
            "evaluate.json": ("validate::preprocessing::transforms::AddNoised::*",),
        },
    ),
    Difference(
        "ixi_denoise",
        "its answer is one channel of noise, which is scored and saved in another way",
        {
            "train.json": (
                *(
                    "out_channels",
                    "loss::loss::*",
                    "validate::postprocessing::transforms*",
                    "validate::inferer::inferer::fill",
                ),
                *("validate::key_metric::*", "validate::evaluator::metric_cmp_fn"),
            ),
            "evaluate.json": (
                "validate::postprocessing::transforms::Score*",
                "validate::handlers::EvaluationReport::extras::KeepCases::metric",
            ),
            "inference.json": (
                *("spacing", "out_channels", "inferer::fill", "preprocessing::transforms::CopyItemsd::*"),
                "postprocessing::transforms::*",
            ),
            "metadata.json": (
                "pred_classes",
                *(f"network_data_format::outputs::pred::{name}" for name in ("format", "num_channels", "value_range")),
                "network_data_format::outputs::pred::channel_def::*",
            ),
        },
    ),
    Difference(
        "ixi_denoise",
        "its short training learns slower, and its windows overlap as usual",
        {"demo.json": ("learning_rate", "overlap")},
    ),
)


def read(task: str, file: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "bundles" / task / "configs" / file).read_text()))


def name_of(entry: Any) -> str:
    """What a member of a list is called: the class of a component, else the text itself."""
    return entry["_target_"].rpartition(".")[2] if isinstance(entry, dict) else str(entry)


def leaves(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config by its id; components of a list go by their class, numbered where there are more."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from leaves(value, f"{at}::{key}" if at else key)
    elif isinstance(node, list) and any(isinstance(entry, dict) for entry in node):
        names = [name_of(entry) for entry in node]
        for place, (name, entry) in enumerate(zip(names, node, strict=True)):
            number = names[:place].count(name)
            yield from leaves(entry, f"{at}::{name}" + (f"_{number + 1}" if number else ""))
    else:
        yield at, node


def orders(node: Any, at: str = "") -> Iterator[tuple[str, list[str]]]:
    """The names in every list of components, and those of the sections, in their order."""
    entries = list(node.items()) if isinstance(node, dict) else [(name_of(entry), entry) for entry in node]
    if isinstance(node, list) or not at:
        yield at, [name for name, _ in entries]
    for name, entry in entries:
        if isinstance(entry, dict) or (isinstance(entry, list) and any(isinstance(each, dict) for each in entry)):
            yield from orders(entry, f"{at}::{name}" if at else name)


def differing(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Ids whose values differ or that only one config has."""
    ours, theirs = dict(leaves(first)), dict(leaves(other))
    return [at for at in {**ours, **theirs} if (at in ours, ours.get(at)) != (at in theirs, theirs.get(at))]


def out_of_order(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Ids of the lists whose shared members stand in another order."""
    ours, theirs = dict(orders(first)), dict(orders(other))
    shared = {at: (ours[at], theirs[at]) for at in ours if at in theirs}
    return [at for at, (a, b) in shared.items() if [n for n in a if n in b] != [n for n in b if n in a]]


def drift(task: str, file: str, config: dict[str, Any]) -> list[str]:
    """What of a task's config is neither that of the first nor named above."""
    named = [pattern for each in DIFFERENCES if each.task == task for pattern in each.ids.get(file, ())]
    first = read(FIRST, file)
    unnamed = [at for at in differing(first, config) if not any(fnmatchcase(at, pattern) for pattern in named)]
    return unnamed + [f"order of {at or 'sections'}" for at in out_of_order(first, config)]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("task", OTHERS)
def test_what_differs_is_named(task: str, file: str) -> None:
    assert drift(task, file, read(task, file)) == []


@pytest.mark.parametrize("named", DIFFERENCES, ids=lambda each: f"{each.task}: {each.why}")
def test_what_is_named_differs(named: Difference) -> None:
    for file, patterns in named.ids.items():
        found = differing(read(FIRST, file), read(named.task, file))
        assert not [pattern for pattern in patterns if not any(fnmatchcase(at, pattern) for at in found)]


def edit_flip(config: dict[str, Any]) -> None:
    config["train"]["random_transforms"][3]["spatial_axis"] = 2


def drop_handler(config: dict[str, Any]) -> None:
    config["train"]["handlers"].pop(1)


def add_knob(config: dict[str, Any]) -> None:
    config["warmup"] = 5


def swap_transforms(config: dict[str, Any]) -> None:
    transforms = config["train"]["random_transforms"]
    transforms[0], transforms[1] = transforms[1], transforms[0]


def move_section(config: dict[str, Any]) -> None:
    config["optimizer"] = config.pop("optimizer")


@pytest.mark.parametrize("edit", [edit_flip, drop_handler, add_knob, swap_transforms, move_section])
@pytest.mark.parametrize("task", OTHERS)
def test_an_edit_of_one_task_alone_is_found(task: str, edit: Callable[[dict[str, Any]], None]) -> None:
    config = deepcopy(read(task, "train.json"))
    edit(config)
    assert drift(task, "train.json", config)


@pytest.mark.parametrize("file", FILES)
def test_each_value_that_the_tasks_share_is_guarded(file: str) -> None:
    """Whatever is not named: changed in one task, it is found."""
    for task in OTHERS:
        named = [pattern for each in DIFFERENCES if each.task == task for pattern in each.ids.get(file, ())]
        guarded = [at for at, _ in leaves(read(task, file)) if not any(fnmatchcase(at, pattern) for pattern in named)]
        assert len(guarded) > len(dict(leaves(read(task, file)))) / 2
        assert set(guarded) <= dict(leaves(read(FIRST, file))).keys()


@pytest.mark.parametrize("file", ["LICENSE", "configs/logging.conf", "configs/released.json"])
def test_copies_are_copies(file: str) -> None:
    folders = [ROOT / "bundles" / name for name in (TASKS if file.endswith(".json") else ALL)]
    assert len({(folder / file).read_bytes() for folder in folders}) == 1


def test_all_bundles_begin_alike_and_want_the_same_packages() -> None:
    for file in ("train.json", "inference.json"):
        assert len({json.dumps(read(name, file)["start"]) for name in ALL}) == 1
        assert len({read(name, file)["bundle_root"].replace("'pretrain_seqinv'", "@task") for name in ALL}) == 1
    for file, key in (("train.json", "initialize"), ("multi_gpu_train.json", "+initialize")):
        assert len({json.dumps(read(name, file)[key]) for name in ALL}) == 1
    own = ("changelog", "name", "task", "description", "data_source", "references", "image_classes", "label_classes")
    own += ("pred_classes", "network_data_format", "data_type", "eval_metrics")
    shared = [{key: value for key, value in read(name, "metadata.json").items() if key not in own} for name in ALL]
    assert all(each == shared[0] for each in shared)
    assert "required_packages_version" in shared[0]
