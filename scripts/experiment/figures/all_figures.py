"""Figures of a grid's results, from its tables to PNG files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.errors import InputError
from scripts.experiment.figures.cases import case_drawing
from scripts.experiment.figures.contrasts import contrast_gallery, view_pairs
from scripts.experiment.figures.curves import dsc_curves, psnr_curves
from scripts.experiment.figures.drawing import Drawing
from scripts.experiment.figures.invariance_dots import invariance_dots, study_invariance
from scripts.experiment.figures.png import write_png
from scripts.experiment.figures.points import across_points, lesion_points, study_points
from scripts.experiment.figures.tsne import feature_tsne
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.tasks import TASKS

__all__ = ["Figure", "write_figures"]

logger = logging.getLogger(__name__)

_FIGURES: dict[str, Callable[[Results], Drawing]] = {
    "contrasts": contrast_gallery,
    "views": view_pairs,
    "across": across_points,
    "dsc_curves": dsc_curves,
    "lesion_points": lesion_points,
    "psnr_curves": psnr_curves,
    **{f"cases_{task}": partial(case_drawing, task=task) for task in TASKS},
    "invariance": invariance_dots,
    "tsne": feature_tsne,
    "study_invariance": study_invariance,
    "study_points": study_points,
}


@dataclass(frozen=True)
class Figure:
    """A figure that was written.

    Attributes:
        name: stem of its file and anchor on a page.
        title: a few words.
        caption: what is drawn, of what, and how to read it.
        path: the PNG.
    """

    name: str
    title: str
    caption: str
    path: Path


def write_figures(results: Results, out_dir: str | Path) -> list[Figure]:
    """Write a PNG of everything that the results hold and return them in reading order.

    A figure that has no data is left out, with a line in the log.

    Args:
        results: as `scripts.experiment.results.collect.collect` returns them.
        out_dir: folder of the PNGs.
    """
    written = []
    for name, draw in _FIGURES.items():
        try:
            drawing = draw(results)
        except (NothingFoundError, InputError) as error:
            logger.warning("figure %s is left out: %s", name, error)
            continue
        path = write_png(drawing.figure, Path(out_dir) / f"{name}.png")
        written.append(Figure(name, drawing.title, drawing.caption, path))
    return written
