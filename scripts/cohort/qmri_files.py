"""What the files of the embedded qMRI cohort say: sidecars, steps of the stored integers, labels, README."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.cohort.lattice import Array, Grid
from scripts.data.layout import SUFFIXES
from scripts.data.units import NAMES, UNITS
from scripts.io.write import write_json, write_nifti, write_text

__all__ = ["LESION_SUFFIX", "STEPS", "describe_dataset", "map_sidecar", "map_suffix", "write_subject"]

STEPS = {"PD": 0.005, "R1": 1e-4, "R2star": 2e-3, "R2": 1e-3, "MTsat": 1e-4}
"""Value of one integer step of each map."""

LESION_SUFFIX = "desc-lesion_mask"

# bone decays faster than any brain
_WHOLE_HEAD_STEPS = {**STEPS, "R2star": 4e-3, "R2": 4e-3}

_LABELS = (
    (1, "grey matter", "GM", "#cd3e4e"),
    (2, "white matter", "WM", "#e6e6e6"),
    (3, "cerebrospinal fluid", "CSF", "#3c3cff"),
    (4, "deep grey matter", "SGM", "#7aba6d"),
    (5, "lesion", "L", "#ffb400"),
)

_PARTICIPANTS = {
    "group": {
        "Description": "Simulated condition",
        "Levels": {"healthy": "No lesion", "stroke": "Chronic stroke"},
    },
    "sex": {"Description": "Simulated sex", "Levels": {"F": "female", "M": "male"}},
    "age": {"Description": "Simulated age", "Units": "year"},
    "lesion_volume": {"Description": "Volume of the lesion mask", "Units": "ml"},
    "person": {"Description": "Label map that the head was made from; subjects of one person belong together"},
}

README = """Embedded qMRI cohort (simulated)

These are not measurements of people. Quantitative maps of proton density (PDmap), R1 (R1map), R2*
(R2starmap), R2 (R2map) and magnetisation transfer saturation (MTsat) were simulated at 3 T from the ICBM
2009a nonlinear symmetric average brain (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033), deformed
and refolded for each subject, with tissue values from the literature. Stroke subjects carry a chronic lesion of
the middle cerebral artery's territory: a cavity with a gliotic rim, whose values are an assumption.

Maps are 0 outside the brain. dseg.tsv names the labels of *_dseg.nii.gz; *_desc-lesion_mask.nii.gz marks the
lesion. cohort.json holds the settings: the same settings give the same bytes.
"""


def map_suffix(name: str) -> str:
    """Return the BIDS suffix of a map of `STEPS`."""
    return SUFFIXES[name.lower()]


def map_sidecar(name: str, *, whole_head: bool = False) -> dict[str, Any]:
    """Return the JSON sidecar of a map of `STEPS`."""
    return {
        "Units": UNITS[name.lower()][0],
        "Description": f"{NAMES[name.lower()]}, simulated",
        "MagneticFieldStrength": 3,
        "SkullStripped": not whole_head,
    }


def write_subject(
    root: Path,
    name: str,
    grid: Grid,
    volume: Callable[[NDArray[Any]], NDArray[Any]],
    maps: Mapping[str, Array],
    labels: NDArray[np.uint8],
    lesion: NDArray[np.bool_] | None,
    *,
    whole_head: bool = False,
) -> None:
    """Write a subject's files below ``root``, whole or not at all.

    Args:
        root: Folder of the cohort.
        name: Of the subject.
        grid: Of the files.
        volume: Puts values (N,) of the subject's voxels into a volume on that grid, 0 elsewhere.
        maps: ``{map: (N,)}``.
        labels: (N,) discrete segmentation.
        lesion: (N,) mask of the lesion, if there is one.
        whole_head: Whether the maps hold more than the brain.
    """
    temporary = root / f".part-{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    folder = temporary / "anat"
    folder.mkdir(parents=True)
    for kind, step in (_WHOLE_HEAD_STEPS if whole_head else STEPS).items():
        stem = folder / f"{name}_{map_suffix(kind)}"
        stored = np.maximum(np.rint(maps[kind] / np.float32(step)), 0.0).astype(np.int16)
        write_nifti(stem.with_suffix(".nii.gz"), volume(stored), grid.affine, step=step, code="aligned")
        write_json(stem.with_suffix(".json"), map_sidecar(kind, whole_head=whole_head))
    write_nifti(folder / f"{name}_dseg.nii.gz", volume(labels), grid.affine, code="aligned")
    if lesion is not None:
        stem = folder / f"{name}_{LESION_SUFFIX}"
        write_nifti(stem.with_suffix(".nii.gz"), volume(lesion.astype(np.uint8)), grid.affine, code="aligned")
        millilitres = round(float(lesion.sum()) * grid.spacing**3 / 1000.0, 3)
        content = {"Type": "Lesion", "LesionVolume": millilitres, "LesionVolumeUnits": "ml"}
        write_json(stem.with_suffix(".json"), content)
    temporary.rename(root / name)


def describe_dataset(
    root: Path, participants: list[dict[str, str]], settings: dict[str, Any], readme: str = README
) -> None:
    """Write the files at the root of the dataset: description, participants, labels, README."""
    write_json(
        root / "dataset_description.json",
        {
            "Name": "Embedded qMRI cohort (simulated)",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "License": "That of the label maps" if "label_maps" in settings else "Apache-2.0",
            "GeneratedBy": [
                {
                    "Name": "seqinv cohort qmri",
                    "Version": str(settings["version"]),
                    "Description": "Simulated quantitative maps; not measurements of people",
                }
            ],
        },
    )
    columns = list(participants[0])
    rows = ["\t".join(columns), *("\t".join(one[column] for column in columns) for one in participants)]
    write_text(root / "participants.tsv", "\n".join(rows) + "\n")
    write_json(root / "participants.json", {name: row for name, row in _PARTICIPANTS.items() if name in columns})
    labels = ["index\tname\tabbreviation\tcolor", *("\t".join(map(str, row)) for row in _LABELS)]
    write_text(root / "dseg.tsv", "\n".join(labels) + "\n")
    write_text(root / "README", readme)
