"""The model card of an exported encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from scripts.variants import variant_label

__all__ = ["model_card"]

_TEMPLATE = "card.md.jinja"


def model_card(config: Mapping[str, Any]) -> str:
    """Return the model card of an encoder as Markdown with the front matter that Hugging Face reads.

    Args:
        config: see `scripts.export.describe.describe`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the result is Markdown
    )
    training = config["training"]
    text: str = environment.get_template(_TEMPLATE).render(
        config=config,
        training=training,
        files=config["files"],
        formats=sorted(file["format"] for file in config["files"].values()),
        variant=variant_label(training["variant"]),
        known=training["kind"] != "unknown",
        patch=config["input"]["patch_size"],
        spacing=config["input"]["voxel_spacing_mm"],
    )
    return text
