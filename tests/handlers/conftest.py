from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _(ready_store: Path) -> None:
    """New MLflow stores are copies here."""
