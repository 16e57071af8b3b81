"""A picture of what the physics makes of an anatomy: typical contrasts of a healthy and of a stroke brain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from scripts.errors import InputError

__all__ = ["draw_gallery"]


def draw_gallery(out: str | Path, dataset_dir: str | Path, subjects: int = 2, height: float = 0.45) -> Path:
    """Write a PNG: one row per subject, one column per typical contrast, an axial slice each.

    Args:
        out: the PNG.
        dataset_dir: a BIDS derivative of quantitative maps.
        subjects: rows; where the participants have groups, one of each group comes first.
        height: position of the slice, 0 at the lowest brain voxel and 1 at the highest.
    """
    from matplotlib.figure import Figure

    from scripts.data.qmri import find_subjects, load_maps
    from scripts.physics import simulate, typical_protocols

    if not 0 <= height <= 1:
        raise InputError(f"height is {height}: give a share of the brain's height, 0 to 1")
    found = find_subjects(dataset_dir)
    first_of_group = {entry.get("group"): entry for entry in reversed(found)}
    rows = [*first_of_group.values(), *(e for e in found if e not in first_of_group.values())][:subjects]
    protocols = typical_protocols()
    figure = Figure(figsize=(1.9 * len(protocols), 2.6 * len(rows) + 0.4), layout="constrained", facecolor="black")
    axes = figure.subplots(len(rows), len(protocols), squeeze=False)
    for number, (row, entry) in enumerate(zip(axes, rows, strict=True)):
        maps, _ = load_maps(entry)
        level = _slice_at(maps[0], height)
        plane = torch.from_numpy(np.ascontiguousarray(maps[None, :, :, :, level : level + 1]))
        for axis, (name, protocol) in zip(row, protocols.items(), strict=True):
            r2 = plane[:, 4:5] if plane.shape[1] > 4 else None
            image = simulate(plane[:, :4], [protocol], r2=r2, r2_from="r2star" if r2 is None else "r2")[0, 0, :, :, 0]
            inside = image[image > 0]
            low, high = (float(torch.quantile(inside, q)) for q in (0.01, 0.995))
            axis.imshow(image.T.numpy(), cmap="gray", origin="lower", vmin=min(low, 0.3 * high), vmax=high)
            axis.set_axis_off()
            if number == 0:
                axis.set_title(name, color="white", fontsize=10)
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return path


def _slice_at(volume: np.ndarray, height: float) -> int:
    used = np.flatnonzero((volume > 0).any(axis=(0, 1)))
    return round(float(used[0] + height * (used[-1] - used[0])))
