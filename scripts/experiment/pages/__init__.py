"""The report as one page: tables, figures and a viewer of volumes, in one HTML file that opens from disk."""

from __future__ import annotations

from scripts.experiment.pages.report_html import write_html
from scripts.experiment.pages.viewer import niivue_source, viewer_content

__all__ = ["niivue_source", "viewer_content", "write_html"]
