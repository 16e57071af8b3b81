"""Parts of a Markdown page that a command writes anew, between two marks that readers do not see."""

from __future__ import annotations

__all__ = ["replace_marked"]


def replace_marked(page: str, begin: str, end: str, text: str) -> str | None:
    """Return a page with ``text`` between two marks in the place of what stood there; None where they are not in it.

    Args:
        page: the whole page.
        begin: the first mark, kept.
        end: the second, kept.
        text: the part, without blank lines around it.
    """
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    return f"{before}{begin}\n\n{text}\n\n{end}{after}" if found and closed else None
