"""What pretraining sees: contrasts simulated from quantitative maps, and the pairs of views of each variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.experiment.figures.drawing import Drawing
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.gallery import Person, brain_slice, first_of_groups, show_contrast
from scripts.physics import Protocol, typical_protocols
from scripts.variants import PRETRAINED, VARIANTS

__all__ = ["contrast_gallery", "protocol_lines", "view_pairs"]

_WIDTH = 8.5
_HEIGHT = 0.45  # of the slice: 0 at the lowest brain voxel, 1 at the highest
_ANATOMIES = 2
_VIEW = 112.0  # mm, about the side of a view


def contrast_gallery(results: Results) -> Drawing:
    """Return an axial slice in each typical contrast with its protocol, of a subject of each group.

    Raises:
        NothingFoundError: the quantitative maps of the grid are gone.
        InputError: they cannot be read.
    """
    from matplotlib.figure import Figure

    people = _people(results)
    protocols = typical_protocols()
    figure = Figure(figsize=(_WIDTH, 1.62 * len(people) + 0.75), layout="constrained", facecolor="black")
    axes = figure.subplots(len(people), len(protocols), squeeze=False)
    for number, (row, person) in enumerate(zip(axes, people, strict=True)):
        plane = _axial(person.maps)
        for axis, (name, protocol) in zip(row, protocols.items(), strict=True):
            show_contrast(axis, plane, protocol, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if number == 0:
                axis.set_title(name, color="white", fontsize=9, weight="bold")
            if number == len(people) - 1:
                axis.set_xlabel("\n".join(protocol_lines(protocol)), color="white", fontsize=7.5)
        row[0].set_ylabel(person.name, color="white", fontsize=8)
    caption = (
        "One slice of quantitative maps (PD, R1, R2*, MTsat) in the contrasts that the signal equations make of them"
        " with typical protocols; TR repetition, TE echo and TI inversion time, FA flip angle. Each image has a window"
        " of its own."
    )
    return Drawing("Simulated contrasts and their protocols", caption, figure)


def view_pairs(results: Results) -> Drawing:
    """Return pairs of views as each variant's pretraining draws them, from the same maps.

    Raises:
        NothingFoundError: the quantitative maps of the grid are gone.
        InputError: they cannot be read.
    """
    from matplotlib.figure import Figure

    from scripts.views import ViewGenerator

    regions, patch, spacing = _regions(_people(results))
    figure = Figure(figsize=(_WIDTH, 2.85 * len(PRETRAINED)), layout="constrained")
    axes = figure.subplots(len(PRETRAINED), 2 * len(regions), squeeze=False)
    mode: Any
    for row, mode in zip(axes, PRETRAINED, strict=True):
        variant = VARIANTS[mode]
        title = f"{variant.label}: {variant.views}"
        row[0].set_title(title, loc="left", fontsize=10, weight="bold", color=variant.colour)
        made = ViewGenerator(mode, patch_size=patch)(regions, step=0)
        for place, axis in enumerate(row):
            b, view = divmod(place, 2)
            n = view * len(regions) + b
            plane = made["image"][n, 0, :, :, patch // 2].numpy()
            axis.imshow(plane.T, cmap="gray", origin="lower", vmin=-2, vmax=3, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            which = f"anatomy {b + 1}, view {view + 1}"
            axis.set_xlabel(f"{which}: {_view_label(made['params'].protocols[n])}", fontsize=7.5)
    caption = (
        f"Two views of each of {len(regions)} anatomies as the encoder gets them ({patch} voxels of {spacing:g} mm"
        " along each side, the central slice), drawn from the paper's ranges of protocols with all augmentations: crop,"
        " rotation, flip, warp, bias field, noise, Gibbs ringing, blanked cuboids. The anatomies are the same in all"
        " rows; contrastive pretraining pulls the two views of one anatomy together."
    )
    return Drawing("What the three variants see in pretraining", caption, figure)


def protocol_lines(protocol: Protocol) -> list[str]:
    """Return name and parameters of a protocol, a line each, times in milliseconds and flip angles in degrees."""
    given = protocol.parameters
    lines = []
    for label, names in (("TR", ("tr",)), ("TE", ("te",)), ("TI", ("ti", "ti1", "ti2"))):
        times = [1000 * given[name] for name in names if name in given]
        if times:
            lines.append(f"{label} {'/'.join(f'{time:.1f}' if time < 10 else f'{time:.0f}' for time in times)} ms")
    angles = [given[name] for name in ("flip_angle", "flip_angle1", "flip_angle2") if name in given]
    if angles:
        lines.append(f"FA {'/'.join(f'{angle:.0f}' for angle in angles)}°")
    return lines


def _view_label(protocol: Protocol) -> str:
    name, parameters = str(protocol).split(" TR ")[0], protocol_lines(protocol)
    return f"{name}\n{', '.join(parameters[:2])}\n{', '.join(parameters[2:])}"


def _people(results: Results) -> list[Person]:
    """Return the first subject of each group."""
    folder = results.facts.get("qmri")
    if not folder or not Path(folder).is_dir():
        raise NothingFoundError("the grid's quantitative maps are not on this machine")
    return first_of_groups(folder, _ANATOMIES)


def _axial(maps: NDArray[np.float32]) -> Tensor:
    """Return one slice of maps, (1, C, I, J, 1), cut to the brain."""
    plane = brain_slice(maps, _HEIGHT)
    brain = plane[0, 0, :, :, 0].numpy() > 0
    box = [slice(max(found[0] - 2, 0), found[-1] + 3) for found in (np.flatnonzero(brain.any(axis=n)) for n in (1, 0))]
    return plane[:, :, box[0], box[1]].contiguous()


def _regions(people: Sequence[Person]) -> tuple[Tensor, int, float]:
    """Return regions (B, C, R, R, R) about the middle of the brains, the side of their views and the voxel [mm]."""
    from scripts.views import region_size

    maps = [person.maps for person in people]
    spacing = people[0].spacing
    patch = max(16, 8 * round(_VIEW / spacing / 8))
    side = region_size(patch)
    regions = np.zeros((len(maps), min(len(own) for own in maps), side, side, side), dtype=np.float32)
    for region, own in zip(regions, maps, strict=True):
        centre = [round(float(np.median(found))) for found in np.nonzero(own[0] > 0)]
        # whatever of the region lies outside the volume stays empty
        first = [middle - side // 2 for middle in centre]
        source = tuple(slice(max(at, 0), at + side) for at in first)
        part = own[(slice(len(region)), *source)]
        target = tuple(slice(max(-at, 0), max(-at, 0) + size) for at, size in zip(first, part.shape[1:], strict=True))
        region[(slice(None), *target)] = part
    return torch.from_numpy(regions), patch, spacing
