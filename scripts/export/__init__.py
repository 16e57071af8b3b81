"""The encoder for other programs: a folder with its weights, its config and a model card, as Hugging Face has them."""

from __future__ import annotations

from scripts.export.folder import Export, export_encoder
from scripts.export.formats import FORMATS

__all__ = ["FORMATS", "Export", "export_encoder"]
