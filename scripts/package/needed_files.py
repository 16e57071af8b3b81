"""Which modules of ``scripts`` the configs of a bundle need: those that they name, and what these import."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from scripts.errors import InputError

__all__ = ["config_modules", "needed_files"]

_PACKAGE = "scripts"
_NAME = re.compile(rf"\b{_PACKAGE}(?:\.\w+)+")


def config_modules(configs: Iterable[Path], root: Path) -> set[str]:
    """Return the modules of ``scripts`` that configs name, in targets and in expressions.

    Args:
        configs: JSON files.
        root: folder that holds ``scripts``.

    Raises:
        InputError: a name that leads to no module.
    """
    found = set()
    for path in configs:
        for name in _NAME.findall(path.read_text(encoding="utf-8")):
            module = _module_of(name, root)
            if module is None:
                raise InputError(f"{path} names {name}, which is no module of scripts: mend the config")
            found.add(module)
    return found


def needed_files(modules: Iterable[str], root: Path) -> list[Path]:
    """Return the files of modules, of all that they import at any depth, and of the packages around them.

    Imports inside of functions count; those for type checkers alone do not. Files other than Python that lie beside
    a needed module and that it names in a string come along.

    Args:
        modules: dotted names below ``scripts``.
        root: folder that holds ``scripts``.

    Returns:
        Sorted paths relative to ``root``.
    """
    todo, seen = list(modules), set()
    files: set[Path] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        path = _file_of(module, root)
        if path is None:
            continue
        imports, names = _used(path, module, path.stat().st_mtime_ns)
        beside = (path.parent / name for name in names)
        files |= {path, *(file for file in beside if file.is_file() and file.suffix != ".py")}
        todo += [found for name in imports if (found := _module_of(name, root))]
        if "." in module:
            todo.append(module.rpartition(".")[0])
    return sorted(path.relative_to(root) for path in files)


def _file_of(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _module_of(name: str, root: Path) -> str | None:
    """Return the longest beginning of a dotted name that is a module, None if there is none below the package."""
    parts = name.split(".")
    while len(parts) > 1:
        module = ".".join(parts)
        if _file_of(module, root) is not None:
            return module
        parts.pop()
    return None


@cache
def _used(path: Path, module: str, _: int) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a module imports and its strings that may be a file's name; once until it is changed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = {text for text in strings if re.fullmatch(r"[\w.-]+\.\w+", text)}
    return frozenset(_imports(tree, module, path)), frozenset(files)


def _imports(tree: ast.Module, module: str, path: Path) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(f"{_PACKAGE}."))
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            if source.split(".")[0] == _PACKAGE:
                yield from (f"{source}.{alias.name}" for alias in node.names)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below one but those of ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _nodes(child)
