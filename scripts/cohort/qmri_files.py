"""What the files of the embedded qMRI cohort say: sidecars, steps of the stored integers, labels, README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.data.layout import SUFFIXES
from scripts.data.units import NAMES, UNITS
from scripts.io.write import write_json, write_text

__all__ = ["STEPS", "describe_dataset", "map_sidecar", "map_suffix"]

STEPS = {"PD": 0.005, "R1": 1e-4, "R2star": 2e-3, "R2": 1e-3, "MTsat": 1e-4}
"""Value of one integer step of each map."""

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


def map_suffix(name: str) -> str:
    """Return the BIDS suffix of a map of `STEPS`."""
    return SUFFIXES[name.lower()]


def map_sidecar(name: str) -> dict[str, Any]:
    """Return the JSON sidecar of a map of `STEPS`."""
    return {
        "Units": UNITS[name.lower()][0],
        "Description": f"{NAMES[name.lower()]}, simulated",
        "MagneticFieldStrength": 3,
        "SkullStripped": True,
    }


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
