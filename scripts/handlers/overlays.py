"""Pictures of what a task's network did: labels on the image, or noisy beside denoised."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from numpy.typing import NDArray
from torch import Tensor

from scripts.io.files import atomic_write
from scripts.io.resample import to_grid
from scripts.ranks import rank
from scripts.tasks import CLASS_COLOURS

__all__ = ["OverlayPictures", "centre_of", "draw_planes", "show_plane"]

_COLOURS = tuple(CLASS_COLOURS)
_TINT = 0.4
"""How much of a pixel is the colour of its class."""


def draw_planes(
    volumes: Mapping[str, NDArray[Any]],
    outlines: Mapping[str, NDArray[Any]],
    path: str | Path,
    *,
    n_classes: int = 0,
    limits: tuple[float, float] = (-2.0, 3.0),
) -> Path:
    """Write a PNG: a row per volume, its sagittal, coronal and axial planes, with the labels.

    Args:
        volumes: title -> (I, J, K) image, all on one grid.
        outlines: title -> (I, J, K) integer labels to show on that volume; the last gives the planes.
        path: where the PNG goes.
        n_classes: labels 1 .. n_classes are shown.
        limits: intensities that are black and white.
    """
    from matplotlib.figure import Figure

    centre = centre_of(list((outlines or volumes).values())[-1])
    figure = Figure(figsize=(9, 3.1 * len(volumes)), layout="constrained")
    axes = figure.subplots(len(volumes), 3, squeeze=False)
    for row, (title, volume) in zip(axes, volumes.items(), strict=True):
        for axis, plot in enumerate(row):
            plane = np.take(volume, centre[axis], axis).T
            labels = np.take(outlines[title], centre[axis], axis).T if title in outlines else None
            show_plane(plot, plane, labels, limits, n_classes=n_classes)
        row[0].set_title(title, fontsize=8, loc="left")
    return atomic_write(path, lambda part: figure.savefig(part, dpi=110))


def show_plane(
    axis: Any,
    plane: NDArray[Any],
    labels: NDArray[Any] | None,
    limits: tuple[float, float],
    *,
    n_classes: int,
    aspect: float = 1.0,
) -> None:
    """Show a plane in axes of matplotlib, with the labels 1 .. n_classes in it, if there are some.

    A single class is outlined; several that touch would hide each other's outlines and are tinted.
    """
    from matplotlib.colors import to_rgba

    axis.imshow(plane, cmap="gray", origin="lower", vmin=limits[0], vmax=limits[1], aspect=aspect)
    axis.set_axis_off()
    if labels is None or not n_classes:
        return
    if n_classes == 1:
        mask = labels == 1
        if mask.any() and not mask.all():
            axis.contour(mask, [0.5], colors=_COLOURS[0], linewidths=0.9)
        return
    tints = [(0.0, 0.0, 0.0, 0.0), *(to_rgba(_COLOURS[k % len(_COLOURS)], _TINT) for k in range(n_classes))]
    known = np.where((labels >= 0) & (labels <= n_classes), labels, 0).astype(int)
    axis.imshow(np.asarray(tints)[known], origin="lower", aspect=aspect, interpolation="nearest")


class OverlayPictures:
    """Draw the first subjects of each site during an evaluation, into the output folder.

    With the keys ``truth`` and ``pred`` (logits or labels) prediction and truth are shown; with ``clean`` the
    noisy, the denoised and the clean image are drawn.

    Args:
        output_dir: where ``overlay_<subject>.png`` goes.
        classes: value -> name of the classes, None for denoising.
        per_site: subjects of each site.
    """

    def __init__(self, output_dir: str | Path, classes: Mapping[Any, str] | None = None, per_site: int = 1) -> None:
        self.output_dir = Path(output_dir)
        self.n_classes = len(classes or {})
        self.per_site = per_site
        self.drawn: dict[str, int] = {}

    def attach(self, engine: Engine) -> None:
        """Draw after each iteration of ``engine`` that brings a subject still wanted, on rank 0."""
        if rank() == 0:
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Draw."""
        # MONAI keeps what the loader gave in the batch and what was added in the output
        for given, added in zip(engine.state.batch, engine.state.output, strict=True):
            sample = {**given, **added}
            site = str(sample.get("site", ""))
            if self.drawn.get(site, 0) >= self.per_site:
                continue
            self.drawn[site] = self.drawn.get(site, 0) + 1
            volumes, outlines = self._segmentation(sample) if self.n_classes else self._denoising(sample)
            path = self.output_dir / f"overlay_{sample['subject']}.png"
            draw_planes(volumes, outlines, path, n_classes=self.n_classes)

    def _segmentation(self, sample: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        image: MetaTensor = sample["image"]
        labels = sample["pred"]
        predicted = labels.argmax(0) if len(labels) > 1 else labels[0]
        truth = to_grid(sample["truth"].cpu(), image.affine.cpu(), image.shape[1:], "nearest")
        volumes = {"prediction": _array(image[0]), "truth": _array(image[0])}
        return volumes, {"prediction": _array(predicted), "truth": _array(truth[0])}

    def _denoising(self, sample: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        noisy, clean = _array(sample["image"][0]), _array(sample["clean"][0])
        return {"noisy": noisy, "denoised": noisy - _array(sample["pred"][0]), "clean": clean}, {}


def _array(values: Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu().numpy())


def centre_of(volume: NDArray[Any]) -> tuple[int, ...]:
    """Return the voxel in the middle of what is labelled, or of the volume."""
    where = np.nonzero(volume)
    if volume.dtype.kind == "f" or not len(where[0]):
        return tuple(n // 2 for n in volume.shape)
    return tuple(int(np.median(axis)) for axis in where)
