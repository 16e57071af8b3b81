"""Pictures of pages, taken by a browser without a window."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from scripts.errors import InputError
from scripts.io.files import atomic_write

__all__ = ["find_browser", "screenshot"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BUDGET = 90_000  # milliseconds that the page's scripts believe to pass


def find_browser() -> str:
    """Return the path of a Chromium.

    Raises:
        InputError: there is none.
    """
    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise InputError("no browser takes the picture: install chromium")
    return browser


def screenshot(url: str, png: str | Path, *, size: tuple[int, int], cut: int) -> Path:
    """Return the path of a picture of a page as it is once its scripts have filled it.

    Args:
        url: of the page, ``file:`` among others.
        png: where the picture goes.
        size: of the picture: width, height [pixels].
        cut: pixels of a wider page that are cut off at its right.

    Raises:
        InputError: there is no Chromium, or it takes no picture.
    """
    from PIL import Image

    browser = find_browser()
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "page.png"
        command = [
            *(browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-background-networking"),
            *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
            *(f"--user-data-dir={folder}/profile", f"--virtual-time-budget={_BUDGET}"),
            *(f"--window-size={size[0] + cut},{size[1]}", f"--screenshot={taken}", url),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if not taken.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"{browser} took no picture of {url}: {last}")
        with Image.open(taken) as picture:
            # a page has few colours, and a palette of them makes a third of the file
            few = picture.convert("RGB").crop((0, 0, *size)).quantize(128, dither=Image.Dither.NONE)
    return atomic_write(png, lambda part: few.save(part, format="PNG", optimize=True))
