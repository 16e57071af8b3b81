from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from PIL import Image

from scripts.experiment.figures import png
from scripts.experiment.figures.palette import (
    MODALITY_COLOURS,
    SITE_COLOURS,
    colours_of,
    variant_colours,
    variant_markers,
)
from scripts.variants import variant_label

STUDY = tuple(f"seqinv-{change}" for change in ("no_l1", "4_views", "vicreg", "levels", "physical"))


def test_colours_tell_variants_modalities_and_sites_apart() -> None:
    names = ("base", "seqaug", "seqinv", "random", "scratch", *STUDY)
    colours = variant_colours(names)
    assert len({*colours.values()}) == len(names)
    assert len({variant_markers(names)[name] for name in names}) == len(names)
    assert len({*MODALITY_COLOURS.values(), *SITE_COLOURS.values()}) == len(MODALITY_COLOURS) + len(SITE_COLOURS)
    # the paper's three keep theirs whoever else is there
    assert variant_colours(["seqinv"])["seqinv"] == colours["seqinv"]
    assert len(set(colours_of(["T1w", "SWI", "DWI"], MODALITY_COLOURS).values())) == 3


def test_labels_of_variants() -> None:
    assert [variant_label(name) for name in ("seqinv", "seqinv-no_l1", "base-two_words", "mine")] == [
        "SeqInv",
        "SeqInv, no L1",
        "Base, two words",
        "mine",
    ]


def test_a_picture_that_compresses_badly_gets_fewer_colours_and_then_fewer_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canvas = Canvas(figsize=(2, 2))
    axis = canvas.add_axes((0, 0, 1, 1))
    axis.imshow(np.random.default_rng(0).random((260, 260, 3)), interpolation="nearest")
    sizes = {}
    for largest in (10_000_000, 100_000, 60_000):
        monkeypatch.setattr(png, "_LARGEST", largest)
        path = png.write_png(canvas, tmp_path / f"{largest}.png")
        assert path.stat().st_size <= largest
        with Image.open(path) as image:
            sizes[largest] = (image.mode, image.width)
    assert sizes == {10_000_000: ("RGBA", 260), 100_000: ("P", 260), 60_000: ("P", 208)}
