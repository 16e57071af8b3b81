"""The BIDS files of an embedded cohort: compressed NIfTI with reproducible bytes, sidecars, tables."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from scripts.cohort.lattice import Grid

__all__ = ["MAP_FILES", "MapFile", "Placement", "describe_dataset", "write_json", "write_nifti", "write_text"]


@dataclass(frozen=True)
class MapFile:
    """How a map is stored: BIDS ``suffix``, ``units``, what it is, and the ``step`` of its integers."""

    suffix: str
    units: str
    what: str
    step: float

    def sidecar(self) -> dict[str, Any]:
        """JSON sidecar."""
        return {
            "Units": self.units,
            "Description": f"{self.what}, simulated",
            "MagneticFieldStrength": 3,
            "SkullStripped": True,
        }


MAP_FILES = {
    "PD": MapFile("PDmap", "p.u.", "Proton density in per cent of that of cerebrospinal fluid", 0.005),
    "R1": MapFile("R1map", "1/s", "Longitudinal relaxation rate", 1e-4),
    "R2star": MapFile("R2starmap", "1/s", "Effective transverse relaxation rate", 2e-3),
    "R2": MapFile("R2map", "1/s", "Transverse relaxation rate", 1e-3),
    "MTsat": MapFile("MTsat", "p.u.", "Magnetisation transfer saturation", 1e-4),
}

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
}

_README = """Embedded qMRI cohort (simulated)

These are not measurements of people. Quantitative maps of proton density (PDmap), R1 (R1map), R2*
(R2starmap), R2 (R2map) and magnetisation transfer saturation (MTsat) were simulated at 3 T from the ICBM
2009a nonlinear symmetric average brain (Fonov et al. 2011, doi:10.1016/j.neuroimage.2010.07.033), deformed
and refolded for each subject, with tissue values from the literature. Stroke subjects carry a chronic lesion of
the middle cerebral artery's territory: a cavity with a gliotic rim, whose values are an assumption.

Maps are 0 outside the brain. dseg.tsv names the labels of *_dseg.nii.gz; *_desc-lesion_mask.nii.gz marks the
lesion. cohort.json holds the settings: the same settings give the same bytes.
"""


@dataclass(frozen=True)
class Placement:
    """Where the voxels of a volume lie: ``affine`` (4, 4), voxel to world [mm]; any orientation and spacing."""

    affine: NDArray[np.float64]


def write_nifti(path: Path, volume: NDArray[Any], grid: Grid | Placement, *, step: float | None = None) -> None:
    """Write ``volume`` (I, J, K) of integers as NIfTI-1, gzipped at level 1 without time or name.

    Args:
        path: File to write.
        volume: Stored integers.
        grid: Where the voxels lie.
        step: Value of one integer step; None for labels.
    """
    header = nib.Nifti1Header()
    header.set_data_dtype(volume.dtype)
    header.set_data_shape(volume.shape)
    code = "aligned" if isinstance(grid, Grid) else "scanner"
    header.set_sform(grid.affine, code=code)
    header.set_qform(grid.affine, code=code)
    header.set_xyzt_units("mm")
    header.set_slope_inter(1.0 if step is None else step, 0.0)
    header["vox_offset"] = 352
    with path.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as file:
        file.write(header.binaryblock + b"\0" * 4)
        file.write(np.asfortranarray(volume).reshape(-1, order="F").data)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    temporary = path.with_name(f".part-{path.name}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(content, indent=4) + "\n")


def describe_dataset(root: Path, participants: list[dict[str, str]], settings: dict[str, Any]) -> None:
    """Write the files at the root of the dataset: description, participants, labels, README."""
    write_json(
        root / "dataset_description.json",
        {
            "Name": "Embedded qMRI cohort (simulated)",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "License": "Apache-2.0",
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
    write_json(root / "participants.json", _PARTICIPANTS)
    labels = ["index\tname\tabbreviation\tcolor", *("\t".join(map(str, row)) for row in _LABELS)]
    write_text(root / "dseg.tsv", "\n".join(labels) + "\n")
    write_text(root / "README", _README)
