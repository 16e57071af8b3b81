"""Pages from Jinja templates: a name that is missing is an error, and no value becomes markup in HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["fill_template"]


def fill_template(template: Path, /, **values: Any) -> str:
    """Return the text of a template, filled.

    Args:
        template: the file; unless it ends in ``.md.jinja``, what is not `markupsafe.Markup` is escaped as HTML.
        values: by their names in the template, which needs each that it uses.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=not template.name.endswith(".md.jinja"),
    )
    return environment.get_template(template.name).render(values)
