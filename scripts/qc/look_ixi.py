"""A subject of IXI on the quality page: tissue outlines on each image, T1's on T2, volumes and intensities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import NDArray

from scripts.data.ixi import MODALITIES
from scripts.errors import InputError
from scripts.qc.look import COLOURS, Box, Look, Outline, Strip, box_around, read_volumes, slices
from scripts.qc.numbers import litres, median_of, ratio, window_of
from scripts.transforms.foreground import head_mask
from scripts.transforms.load_labels import labels_of_probabilities

__all__ = ["look_at_ixi"]

TISSUES = ("grey", "white", "CSF")  # of c1, c2 and c3
_SURE = 0.9  # share from which a voxel counts as pure
_MARGIN = 14.0  # mm
_HEAD = 190.0  # mm, of an image without maps


def look_at_ixi(root: Path, subject: str) -> Look:
    """Return what there is to see of a subject's T1, T2 and PD; see `scripts.qc.rows.write_row`.

    Raises:
        InputError: if there is no image, or one is unreadable.
    """
    files = {kind: _files(root, subject, kind) for kind in MODALITIES.values()}
    files = {kind: found for kind, found in files.items() if found}
    if not files:
        raise InputError(f"{root} holds no image of {subject} ({subject}-T1.nii.gz): restore it")
    images = {kind: read_volumes(found[0]) for kind, found in files.items()}
    maps = {kind: read_volumes(*found[1:]) for kind, found in files.items() if len(found) > 1}
    box = _box(images, maps)
    measures: dict[str, float] = {}
    strips = []
    for kind, image in images.items():
        strips.append(_strip(kind, image, maps.get(kind), box))
        if kind in maps:
            measures.update(_measure(kind, image, maps[kind], files[kind][0]))
    if "T2" in images and "T1" in maps:
        drawn = _strip("T1's outlines on T2", images["T2"], maps["T1"], box)
        strips.append(drawn)
    return Look(
        name=subject,
        group=subject.split("-")[1],
        images=list(images),
        files=[path for found in files.values() for path in found],
        strips=strips,
        measures=measures,
        notes=_notes(list(images), list(maps), measures),
    )


def _files(root: Path, subject: str, kind: str) -> list[Path]:
    """Return an image and, where all three are there, its maps."""
    stem = f"{subject}-{kind}"
    image = next((path for end in (".nii.gz", ".nii") for path in sorted(root.rglob(stem + end))), None)
    if image is None:
        return []
    maps = [
        next((path for end in (".nii.gz", ".nii") if (path := image.with_name(f"c{n}{stem}{end}")).is_file()), None)
        for n in (1, 2, 3)
    ]
    return [image, *(path for path in maps if path)] if all(maps) else [image]


def _box(images: dict[str, MetaTensor], maps: dict[str, MetaTensor]) -> Box:
    if maps:
        shown = next(iter(maps.values()))
        brain = shown[:2].sum(0).numpy() > 0.5
        if brain.any():
            return box_around(brain, shown.affine, margin=_MARGIN)
    image = next(iter(images.values()))
    return box_around(head_mask(image)[0].numpy(), image.affine, margin=0.0, height=_HEAD)


def _strip(title: str, image: MetaTensor, maps: MetaTensor | None, box: Box) -> Strip:
    cuts = [cut[0] for cut in slices(image, box)]
    outlines = []
    inside: list[NDArray[np.bool_]] | None = None
    if maps is not None:
        shares = slices(maps, box)
        inside = [share.sum(0) > 0.5 for share in shares]
        drawn = {
            "CSF": [share[2] for share in shares],
            "grey": [share[:2].sum(0) for share in shares],
            "white": [share[1] for share in shares],
        }
        outlines = [Outline(name, COLOURS[name], cut) for name, cut in drawn.items()]
    return Strip(title, cuts, window_of(cuts, inside), outlines)


def _measure(kind: str, image: MetaTensor, maps: MetaTensor, path: Path) -> dict[str, float]:
    if image.shape[1:] != maps.shape[1:]:
        raise InputError(f"{path} lies on another grid than its maps: segment it again, or reslice them")
    values, shares = image[0].numpy(), maps.numpy()
    labels = labels_of_probabilities(shares)
    found: dict[str, Any] = {}
    for number, tissue in enumerate(TISSUES, start=1):
        found[f"{tissue} [ml]"] = 1000 * litres(float(shares[number - 1].sum(dtype=np.float64)), image.affine)
    medians = {}
    for number, tissue in enumerate(TISSUES, start=1):
        sure = shares[number - 1] > _SURE
        medians[tissue] = median_of(values, sure if sure.sum() >= 100 else labels == number)
        found[f"{tissue} median"] = medians[tissue]
    found["grey / white"] = ratio(medians["grey"], medians["white"])
    found["CSF / white"] = ratio(medians["CSF"], medians["white"])
    return {f"{kind}: {name}": value for name, value in found.items() if value is not None}


def _notes(images: list[str], maps: list[str], measures: dict[str, float]) -> list[str]:
    notes = [f"no {kind}" for kind in MODALITIES.values() if kind not in images and kind != "FLAIR"]
    notes += [f"no tissue maps of {kind}" for kind in images if kind not in maps]
    fluid = {kind: measures.get(f"{kind}: CSF / white") for kind in ("T1", "T2", "PD")}
    if fluid["T2"] is not None and fluid["PD"] is not None and fluid["PD"] > fluid["T2"]:
        notes.append(
            f"T2 and PD look swapped: fluid is {fluid['PD']:.2g} times as bright as white matter in PD, "
            f"{fluid['T2']:.2g} times in T2"
        )
    if fluid["T1"] is not None and fluid["T1"] > 1:
        notes.append(f"T1 looks like another contrast: fluid is {fluid['T1']:.2g} times as bright as white matter")
    return notes
