"""Where the bundles lie in a checkout, what they are called, and how they are run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.tasks import PRETRAIN_BUNDLE, TASKS

__all__ = ["BUNDLES", "BUNDLE_NAMES", "ROOT", "run_bundle", "run_configs"]

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
BUNDLE_NAMES = (PRETRAIN_BUNDLE, *TASKS)


def run_bundle(configs: Sequence[str], settings: Mapping[str, Any], bundle: str = PRETRAIN_BUNDLE) -> None:
    """Run configs of a bundle, merged in their order, with ``settings`` as overrides."""
    run_configs([BUNDLES / bundle / "configs" / name for name in configs], settings)


def run_configs(files: Sequence[Path], settings: Mapping[str, Any], *, own_logging: bool = False) -> None:
    """Run config files, merged in their order.

    Args:
        files: the bundle's metadata and, with ``own_logging`` false, its ``logging.conf`` lie beside the first.
        settings: id -> value, in the place of what the files say.
        own_logging: whether logging is set up already and stays as it is.
    """
    from monai.bundle import ConfigWorkflow

    from scripts.merged_config import config_text

    names = [str(path) for path in files]
    workflow = ConfigWorkflow(config_file=names, logging_file=False if own_logging else None, **settings)
    # no command line tells what MLflow keeps of it
    workflow.parser["merged_config"] = config_text(workflow.parser)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
