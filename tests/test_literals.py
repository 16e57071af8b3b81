"""Values that a config's parser hands on as they are: no name becomes code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scripts.bundles import run_configs
from scripts.literals import literal, literals

RUN = '$__import__("os").system("touch PWNED")'
HOSTILE: list[Any] = [
    *(RUN, RUN + ".nii.gz", "$import os", "$", "@known", "@bundle_root", "%known", "%::known", "@::known"),
    *("sub#1.nii", "a@known", "50%", "\udcff@\n$x", 'it\'s "q"@\\', "\\@", "::"),
    *(["a", RUN, ["@known"]], {"_target_": "os.system", "command": "touch PWNED"}, {"k": {"_target_": "os.abort"}}),
    *({"a#b": [1, 2.5, None, True]}, {"$x": 1, "_mode_": float("inf")}, ["@known", -0.0]),
]
HARMLESS: list[Any] = ["head.nii.gz", "", "a b/c", 1, 1.5, None, True, [1, "a"], {"grey matter": [0.5]}, {}]


@pytest.mark.parametrize("value", [*HOSTILE, *HARMLESS], ids=repr)
def test_a_parser_hands_on_what_was_given(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser({"known": 5, "bundle_root": "/x"})
    parser["value"] = literal(value)
    parser["direct"], parser["inside"] = "@value", "$[@value]"
    parser["argument"] = {"_target_": "builtins.dict", "key": "@value"}
    found = [parser.get_parsed_content(name) for name in ("value", "direct", "inside", "argument")]
    assert list(map(repr, found)) == list(map(repr, [value, value, [value], {"key": value}]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", HARMLESS, ids=repr)
def test_what_no_parser_minds_stays_readable(value: Any) -> None:
    assert literal(value) == value


def test_paths_are_text_and_objects_stay() -> None:
    thing = object()
    assert literals({"a": Path("/a/b"), "b": thing, "c": [thing]}) == {"a": "/a/b", "b": thing, "c": [thing]}
    with pytest.raises(TypeError, match="has no literal"):
        literal([thing, "@x"])


def test_settings_of_a_run_are_not_read_and_overrides_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "run.json"
    config.write_text('{"name": "", "twice": "", "run": ["$open(@name + @twice, \'w\').close()"]}')
    # a name of a file cannot hold the slash that a path would need
    run_configs([config], {"name": RUN}, {"twice": "$'-' + 'end'"}, own_logging=True)
    assert {path.name for path in tmp_path.iterdir()} == {f"{RUN}-end", "run.json"}
