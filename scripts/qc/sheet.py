"""The picture of a subject: strips of three slices with outlines and titles, as a JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from scripts.qc.look import Strip

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["LARGEST", "compose", "encode"]

LARGEST = 180_000
"""Bytes of a picture at most; with its numbers and its part of the page a subject stays below 200 kB."""

_QUALITIES = (88, 82, 76, 70, 62, 54, 45, 35)
_GAP, _BETWEEN, _TITLE, _FONT = 6, 18, 26, 17  # pixels
_COLUMNS = 2
_PAPER, _INK, _MARK = "#000000", "#f2f2f2", "#9aa0a6"
_SIDES = ("R", "R", "A")  # what the left edge of the axial, coronal and sagittal slice shows


def compose(strips: Sequence[Strip]) -> Image:
    """Return the strips as an RGB picture, two side by side."""
    from PIL import Image, ImageDraw

    columns = min(_COLUMNS, len(strips))
    width = max(_width(strip) for strip in strips)
    lines = [strips[first : first + columns] for first in range(0, len(strips), columns)]
    heights = [max(cut.shape[0] for strip in line for cut in strip.slices) for line in lines]
    sheet = Image.new(
        "RGB", (columns * (width + _BETWEEN) - _BETWEEN, sum(heights) + (_TITLE + _GAP) * len(lines)), _PAPER
    )
    draw = ImageDraw.Draw(sheet)
    top = 0
    for line, height in zip(lines, heights, strict=True):
        for column, strip in enumerate(line):
            _draw_strip(sheet, draw, strip, (column * (width + _BETWEEN), top), height)
        top += height + _TITLE + _GAP
    return sheet


def encode(picture: Image) -> bytes:
    """Return a JPEG of at most `LARGEST` bytes, of the best quality that fits; smaller where none does."""
    while True:
        for quality in _QUALITIES:
            buffer = io.BytesIO()
            # full colour resolution: thin coloured lines on grey would bleed
            picture.save(buffer, "JPEG", quality=quality, subsampling=0, optimize=True)
            if buffer.tell() <= LARGEST:
                return buffer.getvalue()
        picture = picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))


def _width(strip: Strip) -> int:
    return sum(cut.shape[1] for cut in strip.slices) + _GAP * (len(strip.slices) - 1)


def _draw_strip(sheet: Image, draw: ImageDraw, strip: Strip, corner: tuple[int, int], height: int) -> None:
    """Draw a title and, below it, the slices, centred in ``height``."""
    from PIL import Image

    left, top = corner
    _draw_title(draw, strip, left, top)
    for number, cut in enumerate(strip.slices):
        place = (left, top + _TITLE + (height - cut.shape[0]) // 2)
        sheet.paste(Image.fromarray(_grey_levels(cut, strip.window)), place)
        for outline in strip.outlines:
            _draw_outline(draw, outline.slices[number], place, outline.colour)
        _draw_text(draw, (place[0] + 3, place[1] + cut.shape[0] // 2 - _FONT // 2), _SIDES[number], _MARK)
        left += cut.shape[1] + _GAP


def _grey_levels(cut: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    scaled = (cut - low) / (high - low)
    return np.rint(np.clip(scaled, 0.0, 1.0) * 255).astype(np.uint8)


def _draw_outline(draw: ImageDraw, cut: NDArray[Any], corner: tuple[int, int], colour: str) -> None:
    from skimage.measure import find_contours

    offset = np.array(corner)
    if cut.dtype == np.bool_:
        draw.point([tuple(point) for point in (np.argwhere(cut)[:, ::-1] + offset).tolist()], fill=colour)
        return
    for line in find_contours(np.pad(cut, 1), 0.5):
        points = line[:, ::-1] - 1.0 + offset
        if len(points) > 1:
            draw.line([tuple(point) for point in points.tolist()], fill=colour, width=1)


def _draw_title(draw: ImageDraw, strip: Strip, at: int, top: int) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(_FONT)
    draw.text((at + 4, top + 2), strip.title, fill=_INK, font=font)
    left = at + 4.0 + draw.textlength(strip.title, font=font) + 16
    for outline in strip.outlines:
        draw.line([(left, top + 13), (left + 16, top + 13)], fill=outline.colour, width=3)
        draw.text((left + 22, top + 2), outline.name, fill=outline.colour, font=font)
        left += 22 + draw.textlength(outline.name, font=font) + 14


def _draw_text(draw: ImageDraw, place: tuple[int, int], text: str, colour: str) -> None:
    from PIL import ImageFont

    draw.text(place, text, fill=colour, font=ImageFont.load_default(_FONT), stroke_width=1, stroke_fill=_PAPER)
