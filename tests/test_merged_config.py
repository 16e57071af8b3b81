"""The config that a run is made of, whoever runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from scripts.merged_config import running_config


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    text = {"_target_": "scripts.merged_config.config_text", "resolved": "$__local_refs"}
    first: dict[str, Any] = {"lr": 0.1, "net": {"_target_": "UNet", "sizes": [1, 2]}, "again": "%net::sizes"}
    (tmp_path / "train.json").write_text(json.dumps({**first, "text": text, "run": ["@text"]}))
    (tmp_path / "more.json").write_text(json.dumps({"net::sizes": [3], "+run": ["$str(1)"]}))
    (tmp_path / "metadata.json").write_text(json.dumps({"version": "1"}))
    return [str(tmp_path / "train.json"), str(tmp_path / "more.json")]


def test_references_and_expressions_stay_as_they_are_written(files: list[str]) -> None:
    settings = {"lr": 0.5, "net::_target_": "SegResNet", "path": Path("a/b")}
    workflow = ConfigWorkflow(config_file=files, logging_file=False, **settings)
    workflow.initialize()
    text, one = workflow.parser.get_parsed_content("text"), workflow.parser.get_parsed_content("run::1")
    assert one == "1"
    config = json.loads(text)
    assert config.pop("text")["resolved"] == "$__local_refs"
    assert config == {
        **{"lr": 0.5, "path": "a/b", "again": [3], "run": ["@text", "$str(1)"]},
        "net": {"_target_": "SegResNet", "sizes": [3]},
    }


def test_of_two_runs_each_has_its_own(files: list[str]) -> None:
    parsers = []
    for rate in (1, 2):
        parser = ConfigParser()
        parser.read_config(files)
        parser["lr"] = rate
        parsers.append(parser)
    assert [json.loads(parser.get_parsed_content("text"))["lr"] for parser in parsers] == [1, 2]
    for parser in parsers:
        assert running_config(parser.ref_resolver.resolved_content) == parser.get()
