"""What went wrong in a bundle is told to clients, whichever bundle's class of error it is."""

from __future__ import annotations

import pytest

from scripts import errors
from scripts.label.own_scripts import reason_of


@pytest.mark.parametrize("name", ["InputError", "DiskFullError"])
def test_the_reason_is_found_in_classes_of_a_bundles_own(name: str) -> None:
    others = {"InputError": type("InputError", (ValueError,), {})}
    others["DiskFullError"] = type("DiskFullError", (others["InputError"],), {})
    for kind in (getattr(errors, name), others[name]):
        wrapped = RuntimeError("what MONAI wraps around it")
        wrapped.__cause__ = kind("no room")
        assert reason_of(wrapped) == "no room"
    assert reason_of(RuntimeError("another")) is None
