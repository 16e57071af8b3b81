"""A picture of what the physics makes of an anatomy: typical contrasts of a healthy and of a stroke brain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.errors import InputError
from scripts.io.files import atomic_write
from scripts.physics import Protocol, simulate, typical_protocols

__all__ = ["Person", "brain_slice", "draw_gallery", "first_of_groups", "show_contrast"]


@dataclass(frozen=True)
class Person:
    """Maps (C, I, J, K) of a subject, what to call it and the side of its voxels [mm]."""

    name: str
    maps: NDArray[np.float32]
    spacing: float


def draw_gallery(out: str | Path, dataset_dir: str | Path, subjects: int = 2, height: float = 0.45) -> Path:
    """Write a PNG: one row per subject, one column per typical contrast, an axial slice each.

    Args:
        out: the PNG.
        dataset_dir: a BIDS derivative of quantitative maps.
        subjects: rows; where the participants have groups, one of each group comes first.
        height: position of the slice, 0 at the lowest brain voxel and 1 at the highest.
    """
    from matplotlib.figure import Figure

    if not 0 <= height <= 1:
        raise InputError(f"height is {height}: give a share of the brain's height, 0 to 1")
    people = first_of_groups(dataset_dir, subjects)
    protocols = typical_protocols()
    figure = Figure(figsize=(1.9 * len(protocols), 2.6 * len(people) + 0.4), layout="constrained", facecolor="black")
    axes = figure.subplots(len(people), len(protocols), squeeze=False)
    for row, person in zip(axes, people, strict=True):
        plane = brain_slice(person.maps, height)
        for axis, protocol in zip(row, protocols.values(), strict=True):
            show_contrast(axis, plane, protocol)
            axis.set_axis_off()
    for axis, name in zip(axes[0], protocols, strict=True):
        axis.set_title(name, color="white", fontsize=10)
    return atomic_write(out, lambda part: figure.savefig(part, dpi=90))


def first_of_groups(dataset_dir: str | Path, count: int) -> list[Person]:
    """Return so many subjects of a dataset of quantitative maps: the first of each group, then the others.

    Raises:
        InputError: the folder holds no subject, or maps cannot be read.
    """
    from scripts.data.qmri import find_subjects, load_maps

    found = find_subjects(dataset_dir)
    first: dict[str | None, dict[str, Any]] = {}
    for entry in found:
        first.setdefault(entry.get("group"), entry)
    people = []
    for entry in [*first.values(), *(entry for entry in found if entry not in first.values())][:count]:
        maps, affine = load_maps(entry)
        group = entry.get("group")
        name = group if group and entry is first[group] else entry["subject"]
        people.append(Person(name, maps, float(np.linalg.norm(affine[:3, 0]))))
    return people


def brain_slice(maps: NDArray[np.float32], height: float) -> Tensor:
    """Return the axial slice (1, C, I, J, 1) of maps (C, I, J, K) at a share of the brain's height, 0 to 1."""
    used = np.flatnonzero((maps[0] > 0).any(axis=(0, 1)))
    level = round(float(used[0] + height * (used[-1] - used[0])))
    return torch.from_numpy(np.ascontiguousarray(maps[None, :, :, :, level : level + 1]))


def show_contrast(axis: Any, plane: Tensor, protocol: Protocol, *, interpolation: str | None = None) -> None:
    """Draw what a protocol makes of a slice of maps (1, C, I, J, 1), in a window of its own.

    Args:
        axis: of matplotlib.
        plane: PD, R1, R2*, MTsat and perhaps R2.
        protocol: which.
        interpolation: of matplotlib; None takes its default.
    """
    r2 = plane[:, 4:5] if plane.shape[1] > 4 else None
    simulated = simulate(plane[:, :4], [protocol], r2=r2, r2_from="r2star" if r2 is None else "r2")
    image = simulated[0, 0, :, :, 0].numpy()
    low, high = np.quantile(image[image > 0], (0.01, 0.995))
    window = {"vmin": min(low, 0.3 * high), "vmax": high}
    axis.imshow(image.T, cmap="gray", origin="lower", interpolation=interpolation, **window)
