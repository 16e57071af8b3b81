"""The examples in the docstrings of the public surface, and that there is one for every public name."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import pkgutil

import pytest

PACKAGES = ("losses", "metrics", "networks", "physics", "views")
MODULES = sorted(
    f"scripts.{package}.{module.name}"
    for package in PACKAGES
    for module in pkgutil.iter_modules(importlib.import_module(f"scripts.{package}").__path__)
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_and_class_has_an_example(name: str) -> None:
    module = importlib.import_module(name)
    assert not [key for key in module.__all__ if _lacks_example(getattr(module, key))]


def _lacks_example(value: object) -> bool:
    """Whether neither the docstring nor, of a class, one of its methods holds an example; a record needs none."""
    if inspect.isfunction(value):
        return ">>>" not in (value.__doc__ or "")
    if not inspect.isclass(value):
        return False
    methods = [part for name, part in vars(value).items() if not name.startswith("_")]
    texts = [inspect.getdoc(part) or "" for part in (value, *methods)]
    record = dataclasses.is_dataclass(value) and not any(map(inspect.isfunction, methods))
    return not record and not any(">>>" in text for text in texts)
