from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch):
    """The module beside this one under a name that a new process can import, too."""
    monkeypatch.syspath_prepend(str(HERE))
    yield importlib.import_module("workers")
    sys.modules.pop("workers", None)
