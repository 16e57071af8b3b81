"""The config that a run is made of: its files, merged, with what was typed in their place."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
from monai.bundle import ConfigParser

__all__ = ["merged_config", "typed_config", "typed_options"]

# options of ``monai.bundle run`` itself
_OWN = ("run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file")
_OWN_OF_WORKFLOWS = ("workflow_name", "workflow_type", "properties_path")


def merged_config(files: Sequence[str | Path], overrides: Mapping[str, Any]) -> str:
    """Return the config as JSON, as MONAI merges it: references and expressions as they are written.

    Args:
        files: later ones replace and add to what stands in earlier ones.
        overrides: id -> value, in the place of what the files say.
    """
    parser = ConfigParser()
    parser.read_config([str(path) for path in files])
    parser.update(dict(overrides))
    parser.resolve_macro_and_relative_ids()
    config = {key: value for key, value in parser.get().items() if key != ConfigParser.meta_key}
    return json.dumps(config, indent=4, default=str)


def typed_config() -> str | None:
    """Return the merged config of the command line of this process, None where it is no ``monai.bundle run``."""
    options = typed_options(sys.argv)
    if options is None:
        return None
    files = options["config_file"]
    overrides = {key: value for key, value in options.items() if key not in (*_OWN, *_OWN_OF_WORKFLOWS)}
    return merged_config([files] if isinstance(files, str) else files, overrides)


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
