from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from scripts.handlers.overlays import centre_of, draw_planes
from scripts.tasks import CLASS_COLOURS

SIZE = 30


def _drawn(labels: np.ndarray, n_classes: int, path: Path) -> np.ndarray:
    """Return the colours (n, 3) of a picture of labels on black."""
    black = np.full(labels.shape, -5.0)
    pixels = imread(draw_planes({"prediction": black}, {"prediction": labels}, path, n_classes=n_classes))
    return pixels[..., :3].reshape(-1, 3)


def _share(pixels: np.ndarray, colour: np.ndarray) -> float:
    return float((np.abs(pixels - colour).max(axis=1) < 0.02).mean())


def test_classes_that_touch_can_all_be_seen(tmp_path: Path) -> None:
    labels = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    for value in (1, 2, 3):
        labels[6 + 6 * (value - 1) : 6 + 6 * value, 6:24, 6:24] = value
    pixels = _drawn(labels, 3, tmp_path / "three.png")
    tints = [0.4 * np.array(to_rgb(colour)) for colour in list(CLASS_COLOURS)[:3]]
    shares = [_share(pixels, tint) for tint in tints]
    assert min(shares) > 0.03
    assert max(shares) < 3 * min(shares)


def test_a_single_class_is_outlined_and_leaves_the_image_to_be_seen(tmp_path: Path) -> None:
    labels = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    labels[8:22, 8:22, 8:22] = 1
    pixels = _drawn(labels, 1, tmp_path / "one.png")
    colour = np.array(to_rgb(next(iter(CLASS_COLOURS))))
    assert 0.0005 < _share(pixels, colour) < 0.03
    assert _share(pixels, 0.4 * colour) < 0.001


def test_unknown_labels_are_not_drawn(tmp_path: Path) -> None:
    labels = np.full((SIZE, SIZE, SIZE), 9, np.uint8)
    assert np.ptp(_drawn(labels, 3, tmp_path / "nine.png"), axis=1).max() < 0.02


def test_the_planes_lie_in_the_middle_of_the_labels() -> None:
    labels = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    labels[2:5, 10:13, 20:23] = 1
    assert centre_of(labels) == (3, 11, 21)
    assert centre_of(np.zeros((4, 6, 8))) == (2, 3, 4)
