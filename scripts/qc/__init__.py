"""Quality pages: one picture and one row of numbers a subject, on a page that opens from disk."""

from __future__ import annotations

from scripts.qc.quality_page import write_page
from scripts.qc.rows import write_row
from scripts.qc.whole_dataset import write_qc

__all__ = ["write_page", "write_qc", "write_row"]
