"""The config that a run is made of: its files, merged, with what was typed in their place."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
from monai.bundle import ConfigParser

__all__ = ["config_text", "typed_config", "typed_options", "typed_settings"]

# options of monai's commands themselves
_OWN = (
    *("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"),
    *("workflow_name", "workflow_type", "properties_path"),
)


def config_text(parser: ConfigParser) -> str:
    """Return the config that a parser has read, as JSON: references and expressions as they are written."""
    parser.resolve_macro_and_relative_ids()
    config = {key: value for key, value in parser.get().items() if key != ConfigParser.meta_key}
    return json.dumps(config, default=str)


def typed_config() -> str | None:
    """Return the config of this process's command line as `config_text` does, None if it runs none."""
    options = typed_options(sys.argv)
    if options is None:
        return None
    parser = ConfigParser()
    parser.read_config(options["config_file"])
    parser.update(typed_settings(options))
    return config_text(parser)


def typed_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a command line's options that take the place of what its configs say."""
    return {key: value for key, value in options.items() if key not in _OWN}


def typed_options(words: Sequence[str]) -> dict[str, Any] | None:
    """Return the options of a command line, those of its ``args_file`` among them; None if it runs no config.

    Args:
        words: as in `sys.argv`.
    """
    if Path(words[0]).parts[-3:] != ("monai", "bundle", "__main__.py") or words[1:2] not in (["run"], ["run_workflow"]):
        return None
    options: dict[str, Any] = {}
    fire.Fire(lambda *_, **typed: options.update(typed), command=list(words[2:]))
    if "args_file" in options:
        options = {**ConfigParser.load_config_file(options["args_file"]), **options}
    return options if "config_file" in options else None
