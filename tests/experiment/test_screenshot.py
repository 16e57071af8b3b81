"""Pictures of pages: the page as its scripts left it, in the size asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.errors import InputError
from scripts.experiment.pages.screenshot import screenshot

PAGE = """<!DOCTYPE html><body style="margin:0;background:#ff0000">
<div style="position:fixed;right:0;top:0;width:100px;height:100%;background:#0000ff"></div>
<script>setTimeout(() => { document.body.style.background = "#00ff00"; }, 2000);</script></body>"""


@pytest.mark.skipif(not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), reason="no chromium")
def test_a_picture_shows_what_scripts_made_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(PAGE)
    path = screenshot(page.as_uri(), tmp_path / "new" / "page.png", size=(640, 300), cut=100)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape == (300, 640, 3)
    assert (picture == (0, 255, 0)).all()  # the blue stripe is cut off, the red is gone


def test_without_a_browser_the_user_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="install chromium"):
        screenshot("about:blank", tmp_path / "page.png", size=(640, 300), cut=0)
