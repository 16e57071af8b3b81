"""The sessions of a qMRI subject on the quality page: maps in fixed windows, brain and lesion, medians a tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.data.layout import MAPS, OPTIONAL, find_entries, find_root, read_groups
from scripts.data.qmri import load_maps
from scripts.data.units import LABELS, UNITS
from scripts.io.read import read_volume
from scripts.qc.look import COLOURS, Box, Look, Outline, Strip, box_around, nearest_to_centre, slices
from scripts.qc.numbers import litres, median_of

__all__ = ["WINDOWS", "look_at_qmri"]

WINDOWS = {"pd": (40.0, 110.0), "r1": (0.0, 1.5), "r2star": (0.0, 40.0), "mtsat": (0.0, 2.5), "r2": (0.0, 25.0)}
"""Black and white of each map in the project's units: one for all subjects, so that pictures compare."""

_MARGIN = 6.0  # mm
_DSEG = {"grey": (1, 4), "white": (2,), "CSF": (3,)}  # labels of an embedded cohort; 4 is deep grey matter
_LEVELS = ("CSF", "grey", "white")  # by rising R1
_OWN_UNITS = {name: units[0] for name, units in UNITS.items()}


def look_at_qmri(root: Path, subject: str) -> list[Look]:
    """Return what there is to see of each session of a subject; see `scripts.qc.rows.write_row`.

    Raises:
        InputError: if maps are missing, unreadable or no brain is in them.
    """
    base = find_root(root)
    group = read_groups(base).get(subject, "all")
    return [_look(entry, group) for entry in find_entries(base / subject, OPTIONAL)]


def _look(entry: dict[str, Any], group: str) -> Look:
    held = [name for name in MAPS if entry[name]]
    loaded, affine = load_maps(entry, units=_OWN_UNITS, nan="zero")
    maps = dict(zip(MAPS, loaded, strict=False))
    brain = maps["pd"] > 0
    prefix = f"{entry['subject']}_{entry['session']}" if entry["session"] else entry["subject"]
    extra, notes = _labels(Path(entry["pd"]).parent, prefix, brain.shape)
    lesion = extra["lesion"][0] > 0 if "lesion" in extra else np.zeros_like(brain)
    tissues = _tissues(maps["r1"], brain, extra["dseg"][0] if "dseg" in extra else None)
    measures = {"brain [l]": litres(float(brain.sum()), affine)}
    if lesion.any():
        measures["lesion [ml]"] = 1000 * litres(float(lesion.sum()), affine)
    for name in held:
        for tissue, mask in {"brain": brain, **tissues}.items():
            median = median_of(maps[name], mask & (maps[name] > 0) & ~lesion)
            if median is not None:
                measures[f"{LABELS[name]} [{UNITS[name][0]}]: {tissue} median"] = median
    return Look(
        name=prefix,
        group=group,
        images=[LABELS[name] for name in held],
        files=[*(Path(entry[name]) for name in held), *(path for _, path in extra.values())],
        strips=_strips({name: maps[name] for name in held}, brain, tissues["white"], lesion, affine),
        measures=measures,
        notes=notes,
    )


def _labels(
    folder: Path, prefix: str, shape: tuple[int, ...]
) -> tuple[dict[str, tuple[NDArray[np.float32], Path]], list[str]]:
    """Return segmentation and lesion mask (I, J, K) that lie beside the maps, with their paths; notes."""
    found, notes = {}, []
    for name, suffix in (("dseg", "dseg"), ("lesion", "desc-lesion_mask")):
        path = next((p for end in (".nii.gz", ".nii") if (p := folder / f"{prefix}_{suffix}{end}").is_file()), None)
        if path is None:
            continue
        voxels, _ = read_volume(path, nan="zero")
        if voxels.shape == shape:
            found[name] = (voxels, path)
        else:
            notes.append(f"{path.name} lies on another grid than the maps")
    return found, notes


def _tissues(
    r1: NDArray[np.float32], brain: NDArray[np.bool_], dseg: NDArray[np.float32] | None
) -> dict[str, NDArray[np.bool_]]:
    """Return masks of grey and white matter and CSF: of the segmentation, else of R1 parted in three (Otsu)."""
    if dseg is not None:
        return {name: np.isin(dseg, values) for name, values in _DSEG.items()}
    from skimage.filters import threshold_multiotsu

    values = r1[brain]
    if np.unique(values[:1000]).size < 4:
        return {name: np.zeros_like(brain) for name in _LEVELS}
    level = np.digitize(r1, threshold_multiotsu(values, classes=len(_LEVELS)))
    return {name: brain & (level == number) for number, name in enumerate(_LEVELS)}


def _strips(
    maps: dict[str, NDArray[np.float32]],
    brain: NDArray[np.bool_],
    white: NDArray[np.bool_],
    lesion: NDArray[np.bool_],
    affine: NDArray[np.float64],
) -> list[Strip]:
    box = box_around(brain, affine, margin=_MARGIN)
    if lesion.any():
        box = Box(box.low, box.high, nearest_to_centre(lesion, affine))
    outlines = [_outline("brain", brain, box, affine)]
    if lesion.any():
        outlines.append(_outline("lesion", lesion, box, affine))
    strips = []
    for name, values in maps.items():
        low, high = WINDOWS[name]
        title = f"{LABELS[name]}  {low:g} to {high:g} {UNITS[name][0]}"
        cuts = [cut[0] for cut in slices(_volume(values, affine), box)]
        drawn = [*outlines, _outline("white", white, box, affine)] if name == "r1" else outlines
        strips.append(Strip(title, cuts, WINDOWS[name], drawn))
    return strips


def _outline(name: str, mask: NDArray[np.bool_], box: Box, affine: NDArray[np.float64]) -> Outline:
    cuts = [cut[0] for cut in slices(_volume(mask.astype(np.float32), affine), box)]
    return Outline(name, COLOURS[name], cuts)


def _volume(values: NDArray[np.float32], affine: NDArray[np.float64]) -> MetaTensor:
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values)[None]), affine=torch.from_numpy(affine))
