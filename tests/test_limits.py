"""Settings that configs do not have, and values that none can have, are refused before any work."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser
from monai.bundle import run as monai_run

from scripts.bundles import BUNDLES, run_configs
from scripts.errors import InputError, find_input_error
from scripts.limits import LIMITS, Limit, check_values
from scripts.setting_names import check_names
from scripts.start import base_config

TRAININGS = [str(path) for path in sorted(BUNDLES.glob("*/configs/train.json"))]
TASK, PRETRAIN = (str(BUNDLES / name / "configs" / "train.json") for name in ("ixi_seg", "pretrain_seqinv"))


def check_settings(files: list[str], given: dict[str, Any]) -> None:
    parser = ConfigParser()
    parser.read_config(files)
    parser.update(given)
    parser.resolve_macro_and_relative_ids()
    base = base_config(Path(files[0]).parents[1], parser.get())
    check_names(parser.get(), base)
    check_values(parser.get(), base)


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*/configs/*.json")), ids=lambda path: "-".join(path.parts[-3::2]))
def test_all_that_comes_along_is_within_bounds(path: Path) -> None:
    if path.name == "metadata.json":
        return
    below = [str(path.with_name(name)) for name in re.findall(r'"Overlay on (\w+\.json)', path.read_text())]
    check_settings([*below, str(path)], {})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_epoch", "did you mean max_epochs"),
        ("learning_rat", "did you mean learning_rate"),
        ("train::trainer::max_epoch", "did you mean train::trainer::max_epochs"),
        ("train#trainer#max_epoch", "did you mean train::trainer::max_epochs"),
        ("embedded::gus", "did you mean embedded::guys"),
        ("train::handler", "did you mean train::handlers"),
        ("zzzzzz", "the bundle's configs name what there is"),
    ],
)
def test_an_unknown_setting_is_told_with_its_nearest_names(name: str, near: str) -> None:
    with pytest.raises(InputError, match=f"^{name.replace('#', '::')}: the config has no such setting; {near}"):
        check_settings([TASK], {name: 1})


def test_what_nothing_reads_is_refused_in_a_file_too(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"max_epoch": 3}))
    with pytest.raises(InputError, match=r"^max_epoch: the config has no such setting; did you mean max_epochs"):
        check_settings([TASK, str(own)], {})


@pytest.mark.parametrize("name", ["probabilities", "n_views"], ids=["of inference", "of an overlay"])
def test_settings_of_other_configs_are_not_read(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name}: the config has no such setting"):
        check_settings([TASK], {name: 2})
    check_settings([TASK, TASK.replace("train.json", "synthetic.json")], {"n_views": 2})


def test_what_is_referred_to_is_a_setting(tmp_path: Path) -> None:
    """A helper of an own overlay may have any name, also one that is like another; so may what it holds."""
    own = tmp_path / "own.json"
    loss = {"_target_": "DiceLoss", "sigmoid": True, "smoth_nr": "$@smooth * 2"}
    own.write_text(json.dumps({"loss2": loss, "smooth": 1e-5, "train::trainer::loss_function": "@loss2"}))
    check_settings([TASK, str(own)], {"classes": {"1": "grey", "2": "white", "3": "fluid", "4": "bone"}})
    check_settings([TASK, str(own)], {"only_validate": ["@start", "$@validate::evaluator.run()"]})  # --run_id
    with pytest.raises(InputError, match=r"^smooth: the config"):
        check_settings([TASK, str(own)], {"loss2::smoth_nr": 0.1})


def test_components_take_arguments_that_the_config_does_not_name() -> None:
    check_settings(
        [TASK], {"optimizer::betas": [0.9, 0.99], "train::trainer::max_epochs": 3, "imports::0": "$import os"}
    )
    check_settings([TASK], {"optimizer": {"_target_": "torch.optim.SGD", "params": "@network", "lrs": 1}})


def run_bundle_here(settings: dict[str, Any]) -> None:
    run_configs([Path(TASK)], settings, own_logging=True)


def run_monai(settings: dict[str, Any]) -> None:
    monai_run(config_file=TASK, logging_file=False, **settings)


BAD: list[tuple[str, Any]] = [
    *(("max_epochs", value) for value in (0, -1, 1.5, "3", True, None, float("nan"), float("inf"), 10**9)),
    *(("learning_rate", value) for value in (0, -1e-3, "1e", float("nan"), 100)),
    *(("patch_size", value) for value in (0, 8, 17, 96.5, -96, None)),
    *[("epoch_length", 0), ("batch_size", 0), ("gradient_clip", 0), ("dropout", 1.0), ("dropout", -0.1)],
    *[("val_interval", 0), ("checkpoint_interval", 0), ("num_workers", -1), ("num_workers", 10**6), ("seed", -1)],
    *[("seed", 0.5), ("seed", "x"), ("spacing", 0), ("spacing", "mm"), ("label_fraction", 0), ("label_fraction", 1.1)],
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=repr)
def test_numbers_out_of_bounds_are_told_with_the_bounds(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}=.* is out of bounds: give .* from "):
        check_settings([TASK], {name: value})


@pytest.mark.parametrize("name", ["picture_interval", "n_views", "temperature"])
def test_numbers_of_the_pretraining_have_bounds(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=-1 is out of bounds"):
        check_settings([PRETRAIN], {name: -1})


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("output_dir", 2024, "output_dir=2024 is read as a number: type --output_dir \"'2024'\""),
        ("experiment", 1e3, "experiment=1000.0 is read as a number"),
        ("resume", "perhaps", "resume='perhaps' is neither true nor false"),
        ("nan", "none", "nan='none' is unknown: choose error or zero"),
    ],
)
def test_other_values_that_cannot_be(name: str, value: Any, line: str) -> None:
    with pytest.raises(InputError, match=f"^{line}"):
        check_settings([PRETRAIN if name == "nan" else TASK], {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("sampling", value) for value in ([0, 0, 0, 0], [1, -1, 1, 1], [1, 1], "abc", 3, [1, 1, 1, float("nan")])],
        *[("features", value) for value in ([16, 32], [True, 32, 64, 128, 192, 16], [0, 4, 8, 8, 8, 4], "small")],
        *[("rotation_degrees", "abc"), ("scaling", [1.5, 0, 0]), ("shear", [0.1])],
    ],
    ids=repr,
)
def test_lists_are_of_the_length_that_the_config_has_and_within_bounds(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}=.* is no such list: give [346] of them, each a .*number from "):
        check_settings([TASK], {name: value})


@pytest.mark.parametrize("value", ["$1 - 1", "@seed"])
def test_what_the_parser_reads_is_left_to_it(value: str) -> None:
    check_settings([TASK], {"max_epochs": value})


def test_every_limit_is_of_a_setting() -> None:
    configs = [json.loads(path.read_text()) for path in BUNDLES.glob("*/configs/*.json")]
    assert not set(LIMITS) - {name for config in configs for name in config}


def test_limits_read_as_words() -> None:
    assert str(Limit(1, 10)) == "a whole number from 1 to 10"
    assert str(Limit(0.5, 2.0, or_none=True)) == "a number from 0.5 to 2 or none"
    assert str(Limit(16, 64, step=16)) == "a multiple of 16 from 16 to 64"


@pytest.mark.parametrize(
    "setting",
    [
        *({"sed": 1}, {"seed": -1}, {"device": "cuda:99"}, {"device": "toaster"}, {"device": "meta"}),
        {"device": "$torch.device('cuda', 99)"},
    ],
    ids=str,
)
@pytest.mark.parametrize("run", [run_bundle_here, run_monai], ids=["ours", "monai.bundle.run"])
def test_a_run_from_python_is_checked_before_anything_is_made(
    run: Callable[..., None], setting: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (name,) = setting
    folders = {name: str(tmp_path / name) for name in ("output_dir", "ckpt_dir", "work_dir")}
    with pytest.raises((InputError, RuntimeError)) as caught:
        run({**folders, **setting})
    cause = find_input_error(caught.value)
    assert cause is not None
    assert str(cause).startswith(name)
    assert not list(tmp_path.iterdir())
