"""The config that a run is made of, from its files and from a command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from scripts.merged_config import config_text, typed_config, typed_options


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    first = {"lr": 0.1, "net": {"_target_": "UNet", "sizes": [1, 2]}, "again": "%net::sizes", "run": ["$@net"]}
    (tmp_path / "train.json").write_text(json.dumps(first))
    (tmp_path / "more.json").write_text(json.dumps({"net::sizes": [3], "+run": ["$print(1)"]}))
    return [str(tmp_path / "train.json"), str(tmp_path / "more.json")]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def type_words(*words: str, program: str = "/usr/lib/python3/monai/bundle/__main__.py") -> None:
        monkeypatch.setattr(sys, "argv", [program, *words])

    return type_words


def test_references_and_expressions_stay_as_they_are_written(files: list[str]) -> None:
    parser = ConfigParser()
    parser.read_config(files)
    parser.update({"lr": 0.5, "net::_target_": "SegResNet"})
    config = json.loads(config_text(parser))
    assert config == {
        "lr": 0.5,
        "net": {"_target_": "SegResNet", "sizes": [3]},
        "again": [3],
        "run": ["$@net", "$print(1)"],
    }


def test_what_was_typed_is_merged(files: list[str], typed: Callable[..., None]) -> None:
    typed("run", "--config_file", str(files), "--lr=0.5", "--net::sizes", "[4, 5]", "--meta_file", "m.json", "train")
    config = json.loads(typed_config() or "")
    assert (config["lr"], config["net"]["sizes"], config["again"]) == (0.5, [4, 5], [4, 5])
    assert set(config) == {"lr", "net", "again", "run"}


def test_one_file_and_options_of_a_file(files: list[str], typed: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "args.json").write_text(json.dumps({"config_file": files[0], "lr": 7, "new": 1}))
    typed("run", "--args_file", str(tmp_path / "args.json"), "--lr", "8")
    config = json.loads(typed_config() or "")
    assert (config["lr"], config["new"], config["net"]["sizes"]) == (8, 1, [1, 2])


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("/usr/bin/pytest", ["run", "--config_file", "train.json"]),
        ("monai/bundle/__main__.py", ["ckpt_export", "--config_file", "train.json"]),
        ("monai/bundle/__main__.py", ["run"]),
        ("", []),
    ],
)
def test_other_command_lines_run_no_config(typed: Callable[..., None], program: str, words: list[str]) -> None:
    typed(*words, program=program)
    assert typed_options(sys.argv) is None
    assert typed_config() is None
