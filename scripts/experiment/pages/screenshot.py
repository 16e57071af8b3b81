"""Pictures of pages, taken by a browser without a window: MLflow's comparison of a grid, for the README."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from scripts.errors import InputError
from scripts.experiment.pages.compare_runs import find_runs, mlflow_server, table_url
from scripts.io.files import atomic_write

__all__ = ["picture_comparison", "screenshot"]

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_ASSISTANT = 450  # pixels of a panel that MLflow opens at the right and that says nothing on runs


def screenshot(
    url: str, png: str | Path, *, size: tuple[int, int] = (1300, 900), cut: int = 0, seconds: float = 30
) -> Path:
    """Return the path of a picture of a page as it is once its scripts have filled it.

    Args:
        url: of the page, ``file:`` among others.
        png: where the picture goes.
        size: of the picture: width, height [pixels].
        cut: pixels of a wider page that are cut off at its right.
        seconds: that the page's scripts believe to pass.

    Raises:
        InputError: there is no Chromium, or it takes no picture.
    """
    from PIL import Image

    browser = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise InputError("no browser takes the picture: install chromium")
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "page.png"
        command = [
            *(browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-background-networking"),
            *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
            *(f"--user-data-dir={folder}/profile", f"--virtual-time-budget={seconds * 1000:.0f}"),
            *(f"--window-size={size[0] + cut},{size[1]}", f"--screenshot={taken}", url),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if not taken.is_file():
            told = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"{browser} took no picture of {url}: {told}")
        with Image.open(taken) as picture:
            # a page has few colours, and a palette of them makes a third of the file
            few = picture.convert("RGB").crop((0, 0, *size)).quantize(128, dither=Image.Dither.NONE)
    return atomic_write(png, lambda part: few.save(part, format="PNG", optimize=True))


def picture_comparison(
    uri: str, grid: str, png: str | Path, *, tags: Mapping[str, str] | None = None, height: int = 1000
) -> Path:
    """Return the path of a picture of MLflow's charts of a grid's runs, 1300 pixels wide.

    Args:
        uri: MLflow store.
        grid: name of the grid.
        png: where the picture goes.
        tags: only runs with these, such as ``{"task": "ixi_seg", "modality": "T1w"}``.
        height: of the picture [pixels].

    Raises:
        InputError: no such grid, none of its runs finished, no browser, or no server.
    """
    found = find_runs(uri, grid)
    with mlflow_server(uri) as (server, _):
        url = table_url(server, found.experiment, found.parent, tags=tags, charts=True)
        return screenshot(url, png, size=(1300, height), cut=_ASSISTANT)
