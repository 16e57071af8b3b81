"""Where the bundles lie in a checkout, what they are called, and how they are run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.literals import command_word, literals
from scripts.tasks import PRETRAIN_BUNDLE, TASKS

__all__ = ["BUNDLES", "BUNDLE_NAMES", "ROOT", "bundle_command", "run_bundle", "run_configs"]

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ROOT / "bundles"
BUNDLE_NAMES = (PRETRAIN_BUNDLE, *TASKS)


def bundle_command(configs: Sequence[str], overrides: Mapping[str, Any], bundle: str = PRETRAIN_BUNDLE) -> str:
    """Return what one types, in the checkout, to run configs of a bundle with overrides in the language of configs."""
    files = ",".join(f"'bundles/{bundle}/configs/{name}'" for name in configs)
    options = [f"--{key} {shlex.quote(command_word(value, key))}" for key, value in overrides.items()]
    return " ".join([f'python -m monai.bundle run --config_file "[{files}]"', *options])


def run_bundle(
    configs: Sequence[str],
    settings: Mapping[str, Any],
    bundle: str = PRETRAIN_BUNDLE,
    overrides: Mapping[str, Any] | None = None,
) -> None:
    """Run configs of a bundle, merged in their order, see `run_configs`."""
    run_configs([BUNDLES / bundle / "configs" / name for name in configs], settings, overrides)


def run_configs(
    files: Sequence[Path],
    settings: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    own_logging: bool = False,
) -> None:
    """Run config files, merged in their order.

    Args:
        files: the bundle's metadata and, with ``own_logging`` false, its ``logging.conf`` lie beside the first.
        settings: id -> value, in the place of what the files say. Whatever they hold, the config's parser does not
            read it (`scripts.literals`): they may come from users, names of files, and servers.
        overrides: id -> the same in the language of configs, of the project's own making: references, components.
        own_logging: whether logging is set up already and stays as it is.

    Raises:
        InputError: whatever the config refuses.
    """
    from monai.bundle import ConfigWorkflow

    given = {**(overrides or {}), **literals(settings)}
    workflow = ConfigWorkflow(
        config_file=[str(path) for path in files], logging_file=False if own_logging else None, **given
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
