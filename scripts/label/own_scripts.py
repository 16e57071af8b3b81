"""A bundle's own ``scripts`` in the place of those that serve it, for as long as it runs."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from scripts.bundles import run_configs
from scripts.errors import InputError, chain

__all__ = ["own_scripts", "reason_of", "run_config"]

_PACKAGE = "scripts"
_LOCK = threading.RLock()  # modules are of the whole process


def run_config(folder: Path, configs: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Run configs of a bundle, merged in their order, by the bundle's own modules.

    Args:
        folder: of the bundle.
        configs: names of the files.
        settings: that take the place of the config's.
    """
    with own_scripts(folder):
        run_configs([folder / "configs" / name for name in configs], settings, own_logging=True)


@contextlib.contextmanager
def own_scripts(folder: Path) -> Iterator[None]:
    """Let ``import scripts`` mean the modules of a bundle's folder; one bundle at a time.

    Args:
        folder: of the bundle.
    """
    with _LOCK:
        ours = _take_modules()
        path, hook = list(sys.path), sys.excepthook
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path[:] = path
            sys.excepthook = hook
            _take_modules()
            sys.modules.update(ours)


def reason_of(error: BaseException) -> str | None:
    """Return what is wrong with a user's input, None if the error is another.

    Known by its name, since each bundle brings a class of its own.

    Args:
        error: whatever came out of a bundle; what MONAI wraps around the cause is looked through.
    """

    def is_input(cause: BaseException) -> bool:
        return any(kind.__name__ == InputError.__name__ for kind in type(cause).__mro__)

    return next((str(cause) for cause in chain(error) if is_input(cause)), None)


def _take_modules() -> dict[str, ModuleType]:
    """Take the modules of the package out of Python's table and return them."""
    names = [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]
    return {name: sys.modules.pop(name) for name in names}
