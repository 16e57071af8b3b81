from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.errors import InputError
from scripts.switches import is_given, is_on


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE", "yes", "on", "1", 1])
def test_on(value: Any) -> None:
    assert is_on(value, "resume") is True


@pytest.mark.parametrize("value", [False, "false", "False", "no", "off", "OFF", "0", 0])
def test_off(value: Any) -> None:
    assert is_on(value, "resume") is False


@pytest.mark.parametrize("value", [None, "", "none", "maybe", 2, -1, "tru", [True], 0.5])
def test_neither_on_nor_off(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        is_on(value, "freeze")
    assert str(caught.value) == f"freeze={value!r} is neither true nor false: type --freeze true or --freeze false"


@pytest.mark.parametrize(
    ("value", "given"),
    [
        (None, False),
        ("none", False),
        ("None", False),
        ("null", False),
        ("pretrained", True),
        ("", True),
        (0, True),
        (False, True),
        (Path("none.pt"), True),
    ],
)
def test_given(value: Any, given: bool) -> None:
    assert is_given(value) is given
