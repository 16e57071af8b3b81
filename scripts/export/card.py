"""The model card of an exported encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.io.templates import fill_template
from scripts.variants import variant_label

__all__ = ["model_card"]


def model_card(config: Mapping[str, Any]) -> str:
    """Return the model card of an encoder as Markdown with the front matter that Hugging Face reads.

    Args:
        config: see `scripts.export.describe.describe`.
    """
    training = config["training"]
    return fill_template(
        Path(__file__).with_name("card.md.jinja"),
        config=config,
        training=training,
        files=config["files"],
        formats=sorted(file["format"] for file in config["files"].values()),
        variant=variant_label(training["variant"]),
        known=training["kind"] != "unknown",
        patch=config["input"]["patch_size"],
        spacing=config["input"]["voxel_spacing_mm"],
    )
