"""What of a config is recorded as the definition of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from monai.bundle import ConfigParser

from scripts.handlers.run_settings import RunSettings


@pytest.fixture
def parser() -> ConfigParser:
    return ConfigParser(
        {
            "lr": 0.1,
            "sizes": [1, 2],
            "norm": None,
            "resume": False,
            "unused": 3,
            "step": "$@lr / 2",
            "network": {"_target_": "dict", "sizes": "@sizes", "norm": "@norm", "on": "@resume"},
            "settings": {
                "_target_": "scripts.handlers.run_settings.RunSettings",
                "resolved": "$__local_refs",
                "knobs": ["lr", "sizes", "norm", "resume", "unused", "step"],
                "more": {"network": "$len(@network)"},
            },
        }
    )


def test_values_are_those_in_effect_once_the_components_are_made(parser: ConfigParser) -> None:
    parser["lr"] = 0.5
    settings: RunSettings = parser.get_parsed_content("settings")
    parser.get_parsed_content("step")
    recorded: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    assert recorded == {"lr": 0.5, "sizes": "[1, 2]", "norm": "None", "resume": False, "step": 0.25, "network": 3}
    assert len(settings) == len(recorded)


def test_what_is_not_recorded_has_no_value(parser: ConfigParser) -> None:
    settings: RunSettings = parser.get_parsed_content("settings")
    for name in ("unused", "network_def"):
        assert name not in settings
        with pytest.raises(KeyError):
            settings[name]
