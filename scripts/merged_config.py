"""The config that a run is made of: its files, merged, with what was set in their place."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

__all__ = ["config_text", "running_config"]


def running_config(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merged config of a run, macros and relative ids in place, references and expressions as written.

    MONAI hands a component nothing of the config that it stands in, whoever runs it: a command line, `monai.bundle.run`
    called from Python, a workflow. All that an expression sees is what was resolved before it, which the run's own
    resolver keeps beside the config.

    Args:
        resolved: ``$__local_refs`` of the config.
    """
    (resolver,) = (
        each for each in gc.get_objects() if type(each) is ReferenceResolver and each.resolved_content is resolved
    )
    config: dict[str, Any] = resolver.items[""].get_config()
    return config


def config_text(resolved: Mapping[str, Any]) -> str:
    """Return the `running_config` as JSON, without the bundle's metadata."""
    config = {key: value for key, value in running_config(resolved).items() if key != ConfigParser.meta_key}
    return json.dumps(config, default=str)
