from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.slurm.one_node import OneNode, missing, one_node


@pytest.fixture(scope="session")
def slurm() -> Iterator[OneNode]:
    """A Slurm of one node; what needs it is skipped where there can be none, as in CI."""
    lacks = missing()
    if lacks:
        pytest.skip(f"needs {lacks}, see tests/slurm/one_node.py")
    with one_node() as made:
        yield made
