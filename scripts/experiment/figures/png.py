"""Figures as PNG files that a page can carry."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from scripts.io.files import atomic_write

__all__ = ["write_png"]

_DPI = 130
_LARGEST = 400_000
"""Bytes to stay below, down to 60 % of the pixels along each side."""


def write_png(figure: Any, path: Path) -> Path:
    """Write a figure as PNG and return its path.

    A picture that is too large gets 256 colours, which is enough for grey images with outlines; one that is still too
    large, fewer pixels.

    Args:
        figure: the matplotlib figure.
        path: of the PNG.
    """
    data = b""
    for share, reduce in ((1.0, False), (1.0, True), (0.8, True), (0.6, True)):
        data = _png(figure, share * _DPI, reduce=reduce)
        if len(data) <= _LARGEST:
            break
    return atomic_write(path, lambda part: part.write_bytes(data))


def _png(figure: Any, dpi: float, *, reduce: bool) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    if not reduce:
        return buffer.getvalue()
    smaller = io.BytesIO()
    image = Image.open(buffer).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(smaller, format="png", optimize=True)
    return smaller.getvalue()
