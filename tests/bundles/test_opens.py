"""How often ``predict`` opens the image of a user, and how often it looks for the head in it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.predict import predict
from scripts.transforms import foreground
from tests.bundles.test_predict import WIDTHS, copy_of, scan, user

__all__ = ["scan", "user"]  # fixtures


class Opens:
    """Counts what Python opens from now on; an audit hook stays for good, so there is one."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.on = False
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event == "open":
            self.counted[str(args[0])] += 1


OPENS = Opens()


@pytest.mark.parametrize(("bundle", "channels"), [("ixi_seg", 4), ("ixi_denoise", 1)])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_an_image_is_opened_twice_and_its_head_found_once(
    root: Path,
    scan: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    bundle: str,
    channels: int,
    name: str,
) -> None:
    """Once to check its header, with those of all other images, before any work; once to read it."""
    path = scan(name)
    folder = copy_of(root, bundle, channels, tmp_path / "ours")
    masks, find = [], foreground.head_mask

    def counting(image: Any) -> Any:
        masks.append(tuple(image.shape))
        return find(image)

    monkeypatch.setattr(foreground, "head_mask", counting)
    monkeypatch.setattr("scripts.inferers.head_windows.head_mask", counting)
    OPENS.counted.clear()
    OPENS.on = True
    options = {"probabilities": True} if bundle == "ixi_seg" else {}
    try:
        predict(folder, path, out=tmp_path / "out", features=WIDTHS, device="cpu", spacing=2, **options)
    finally:
        OPENS.on = False
    assert OPENS.counted[str(path)] == 2
    assert len(masks) == 1
