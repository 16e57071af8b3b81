"""The best, the median and the worst case of a task, as slices with labels or errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from scripts.experiment.figures.drawing import Drawing
from scripts.experiment.figures.palette import MODALITY_COLOURS
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.experiment.results.wording import cohort_words, in_order
from scripts.tasks import CLASS_COLOURS, TASKS
from scripts.transforms.foreground import head_mask
from scripts.variants import variant_label, variant_order

__all__ = ["case_drawing", "choose_cases", "load_case", "slice_with_most"]

logger = logging.getLogger(__name__)

_WIDTH = 8.5
_RANKS = ("best", "median", "worst")
_VOLUMES = ("image", "truth", "prediction")
_CORONAL, _AXIAL = 1, 2
_PAIR = {"truth": "#50d0ff", "prediction": "#ff9020"}
_ERROR = 0.5

Case = dict[str, NDArray[Any]]


def case_drawing(results: Results, task: str) -> Drawing:
    """Return the best, median and worst test case of a task, a row each.

    Of SeqInv where it was run, at the largest label fraction, in the first modality.

    Raises:
        NothingFoundError: no case of the task was kept, or no file of them is left.
    """
    from matplotlib.figure import Figure

    about = TASKS[task]
    chosen = choose_cases(results.cases, task)
    loaded = [(row, volumes) for row in chosen.to_dict("records") if (volumes := _try_case(row))]
    if not loaded:
        raise NothingFoundError(f"the volumes of the cases of {task} are gone")
    draw = _draw_labels if about.labels else _draw_denoising
    height = len(loaded) * _panel_height(*loaded[0][1], coronal=bool(about.labels)) + 0.3
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    axes = figure.subplots(len(loaded), 4, squeeze=False)
    for number, (axis_row, (row, volumes)) in enumerate(zip(axes, loaded, strict=True)):
        titles = draw(axis_row, volumes, [label.colour for label in about.labels])
        for axis, title in zip(axis_row, titles, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            axis.set_anchor("N")
            if number == 0:
                axis.set_title(title, fontsize=9)
        axis_row[0].set_ylabel(_case_words(row), fontsize=8)
    first = loaded[0][0]
    classes = ", ".join(f"{label.name} {CLASS_COLOURS[label.colour]}" for label in about.labels)
    caption = (
        f"Test cases of {variant_label(first['variant'])} on {first['modality']}, trained with "
        f"{100 * first['fraction']:g} % of the labels (seed {first['seed']}), ranked by {first['metric']} over all "
        f"sites; {cohort_words(chosen)}. {about.cases.format(classes=classes)}; left is the subject's left."
    )
    return Drawing(f"{about.topic}: best, median and worst case", caption, figure)


def choose_cases(cases: pd.DataFrame, task: str) -> pd.DataFrame:
    """Return the rows of one run of a task, best, median and worst: see `case_drawing` for which run.

    Raises:
        NothingFoundError: there is none.
    """
    own = cases[cases["task"] == task] if len(cases) else cases
    if own.empty:
        raise NothingFoundError(f"no case of {task} was kept")
    variants = variant_order(own["variant"].unique())
    own = own[own["variant"] == ("seqinv" if "seqinv" in variants else variants[0])]
    own = own[own["fraction"] == own["fraction"].max()]
    own = own[own["modality"] == in_order(own["modality"], MODALITY_COLOURS)[0]]
    own = own[own["seed"] == own["seed"].min()]
    places = {rank: place for place, rank in enumerate(_RANKS)}
    return own.sort_values("rank", key=lambda column: column.map(places), ignore_index=True)


def load_case(row: Mapping[str, Any]) -> tuple[Case, tuple[float, ...]]:
    """Return image, truth and prediction, (I, J, K) with axes to the right, front and top, and the voxel size [mm].

    Args:
        row: of `Results.cases`.

    Raises:
        NothingFoundError: a file is missing or no image.
    """
    volumes: Case = {}
    spacing: tuple[float, ...] = ()
    for what in _VOLUMES:
        path = Path(str(row[what]))
        try:
            image = nib.as_closest_canonical(nib.load(path))
            volumes[what] = np.asarray(image.dataobj)
        except (OSError, ImageFileError) as error:
            raise NothingFoundError(f"{path.name} of {row['subject']} cannot be read: {error}") from error
        spacing = tuple(float(side) for side in image.header.get_zooms()[:3])
    return volumes, spacing


def slice_with_most(mask: NDArray[np.bool_], axis: int) -> int:
    """Return the slice across ``axis`` with the largest share of ``mask``, the middle one where it is empty."""
    counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    return int(counts.argmax()) if counts.any() else mask.shape[axis] // 2


def _try_case(row: Mapping[str, Any]) -> tuple[Case, tuple[float, ...]] | None:
    try:
        return load_case(row)
    except NothingFoundError as error:
        logger.warning("a case is left out: %s", error)
        return None


def _draw_labels(axes: Any, case: tuple[Case, tuple[float, ...]], colours: list[str]) -> list[str]:
    """Draw two planes: several classes coloured, truth beside prediction; one outlined, beside the bare image."""
    volumes, spacing = case
    image, truth, prediction = (volumes[what] for what in _VOLUMES)
    limits = _limits(image)
    titles = []
    for first, (axis, plane) in zip((0, 2), ((_AXIAL, "axial"), (_CORONAL, "coronal")), strict=True):
        at = slice_with_most(truth > 0 if truth.any() else prediction > 0, axis)
        show = _shower(axis, at, spacing)
        for panel in axes[first : first + 2]:
            show(panel, image, cmap="gray", vmin=limits[0], vmax=limits[1])
        cut = [np.take(labels, at, axis).T for labels in (truth, prediction)]
        if len(colours) > 1:
            for panel, labels in zip(axes[first : first + 2], cut, strict=True):
                _fill(panel, labels, colours)
            titles += [f"{plane}, truth", f"{plane}, prediction"]
        else:
            for labels, colour in zip(cut, _PAIR.values(), strict=True):
                _outline(axes[first + 1], labels > 0, colour, 1.1)
            titles += [f"{plane}, image", f"{plane}, truth and prediction"]
    return titles


def _draw_denoising(axes: Any, case: tuple[Case, tuple[float, ...]], _colours: list[str]) -> list[str]:
    volumes, spacing = case
    noisy, clean, denoised = (volumes[what] for what in _VOLUMES)
    low, high = _limits(clean)
    head = head_mask(torch.from_numpy(np.ascontiguousarray(clean, dtype=np.float32))[None])[0].numpy()
    show = _shower(_AXIAL, slice_with_most(head, _AXIAL), spacing)
    for panel, volume in zip(axes, (noisy, denoised, clean), strict=False):
        show(panel, volume, cmap="gray", vmin=low, vmax=high)
    drawn = show(axes[3], denoised - clean, cmap="RdBu_r", vmin=-_ERROR, vmax=_ERROR)
    bar = axes[3].figure.colorbar(drawn, ax=axes[3], shrink=0.7, ticks=[-_ERROR, 0, _ERROR])
    bar.ax.tick_params(labelsize=7)
    return ["noisy", "denoised", "clean", "error"]


def _shower(axis: int, at: int, spacing: tuple[float, ...]) -> Callable[..., Any]:
    across, up = (side for place, side in enumerate(spacing) if place != axis)

    def show(panel: Any, volume: NDArray[Any], **how: Any) -> Any:
        return panel.imshow(
            np.take(volume, at, axis).T, origin="lower", aspect=up / across, interpolation="nearest", **how
        )

    return show


def _panel_height(volumes: Case, spacing: tuple[float, ...], *, coronal: bool) -> float:
    """Return the height [inches] that planes need where four of them share the width."""
    right, front, top = (n * side for n, side in zip(volumes["image"].shape, spacing, strict=True))
    return 0.1 + (_WIDTH - 0.4) / 4 * max(front, top if coronal else 0) / right


def _fill(panel: Any, labels: NDArray[Any], colours: list[str]) -> None:
    from matplotlib.colors import ListedColormap

    shown = np.ma.masked_equal(labels, 0)
    look = {"cmap": ListedColormap(colours), "vmin": 1, "vmax": len(colours), "alpha": 0.5}
    panel.imshow(shown, origin="lower", aspect=panel.get_aspect(), interpolation="nearest", **look)


def _outline(panel: Any, mask: NDArray[np.bool_], colour: str, width: float) -> None:
    if mask.any() and not mask.all():
        panel.contour(mask, [0.5], colors=colour, linewidths=width)


def _limits(volume: NDArray[Any]) -> tuple[float, float]:
    low, high = np.quantile(volume, (0.01, 0.998))
    return float(low), float(max(high, low + 1e-6))


def _case_words(row: Mapping[str, Any]) -> str:
    metric = TASKS[row["task"]].headline
    # a digit more than in tables, which show means
    score = f"{metric.scale * row['value']:.{2 if metric.scale == 1 else 1}f}"
    return f"{row['rank']}: {metric.label} {score} {metric.unit}\n{row['subject']} ({row['site']})"
