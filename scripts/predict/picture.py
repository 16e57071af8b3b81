"""One picture of what a prediction gave: labels on their images, or the images that were made beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.handlers.overlays import centre_of, show_plane
from scripts.io.files import atomic_write
from scripts.io.resample import voxel_sizes
from scripts.io.volume_reader import load_volume
from scripts.tasks import CLASS_COLOURS

__all__ = ["PICTURE", "draw_predictions"]

PICTURE = "predictions.png"
"""In the folder of the results."""

_MOST = 12  # images in a picture
_FEW_LABELLED = 0.05
"""Share of a plane's pixels below which the labelled ones are no brain."""
_LABELS = "_seg"
_LEFT_OUT = ("_probabilities", "_features", "_uncertainty")
_COLOURS = tuple(CLASS_COLOURS)


def draw_predictions(rows: Sequence[Mapping[str, Any]], out: Path, classes: Mapping[Any, str]) -> Path | None:
    """Draw the results of images, a row each, and return the PNG; None where there is nothing to draw.

    Labels are shown on the sagittal, the coronal and the axial plane in their middle, the grey values between those of
    labelled voxels; of other results the axial plane in the middle of the image stands beside that of the image. No
    more than 12 images are drawn.

    Args:
        rows: of `scripts.predict.images.Outcome`.
        out: folder of the results, in which the PNG is written.
        classes: value -> name of the labels, empty where there are none.
    """
    from matplotlib.figure import Figure

    n_classes = len(classes)
    drawn = [(Path(row["image"]), panels) for row in rows[:_MOST] if (panels := _panels(row, out))]
    if not drawn:
        return None
    width = max(len(panels) for _, panels in drawn)
    figure = Figure(figsize=(2.6 * width, 2.8 * len(drawn)), layout="constrained", facecolor="black")
    axes = figure.subplots(len(drawn), width, squeeze=False)
    for line, (image, panels) in zip(axes, drawn, strict=True):
        for axis in line:
            axis.set_axis_off()
        for axis, (title, plane, marks, aspect) in zip(line, panels, strict=False):
            limits = _limits(plane, marks if n_classes > 1 else None)
            show_plane(axis, plane, marks, limits, n_classes=n_classes, aspect=aspect)
            axis.set_title(title or image.name, color="white", fontsize=8)
    shown = zip(classes.values(), _COLOURS, strict=False)
    for place, (name, colour) in enumerate(shown):
        figure.text(0.01 + 0.2 * place, 0.002, name, color=colour, fontsize=8)
    return atomic_write(out / PICTURE, lambda part: figure.savefig(part, format="png", dpi=90))


_Panel = tuple[str, NDArray[Any], "NDArray[Any] | None", float]


def _panels(row: Mapping[str, Any], out: Path) -> list[_Panel]:
    """Return title, plane, labels in it and height of a pixel by its width, of each panel of an image."""
    files = [out / name for name in str(row["files"]).split(";") if name.endswith((".nii.gz", ".nii"))]
    wanted = [path for path in files if not _kind(path).endswith(_LEFT_OUT)]
    if row["status"] != "ok" or not wanted or not Path(row["image"]).exists():  # the name may be written otherwise
        return []
    image = load_volume(row["image"])
    sizes = voxel_sizes(image.affine)
    voxels = np.asarray(image[0])
    labels = next((path for path in wanted if _kind(path).endswith(_LABELS)), None)
    if labels is not None:
        marks = _turned(labels)
        middle = centre_of(marks)
        return [_plane("", voxels, marks, axis, middle[axis], sizes) for axis in range(3)]
    height = voxels.shape[2] // 2
    made = [(_kind(path).rpartition("_")[2], _turned(path)) for path in wanted]
    return [_plane(title, volume, None, 2, height, sizes) for title, volume in [("", voxels), *made]]


def _plane(
    title: str, volume: NDArray[Any], marks: NDArray[Any] | None, axis: int, place: int, sizes: Sequence[float]
) -> _Panel:
    first, second = (side for side in range(3) if side != axis)
    cut = None if marks is None else np.take(marks, place, axis).T
    return title, np.take(volume, place, axis).T, cut, sizes[second] / sizes[first]


def _limits(plane: NDArray[Any], marks: NDArray[Any] | None) -> tuple[float, float]:
    """Return the grey values of black and white: of several labels' voxels, as fat may outshine a brain; or of all."""
    inside = plane if marks is None or np.count_nonzero(marks) < _FEW_LABELLED * marks.size else plane[marks > 0]
    low, high = (float(limit) for limit in np.percentile(inside, (0.5, 99.5)))
    return low, max(high, low + 1e-6)


def _turned(path: Path) -> NDArray[Any]:
    """Return a result in the order in which `load_volume` gives its image."""
    import nibabel as nib

    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def _kind(path: Path) -> str:
    """Return the name of a file without its endings."""
    return path.name.removesuffix(".gz").removesuffix(".nii")
