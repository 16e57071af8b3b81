"""Datalists of a prepared folder, as MONAI reads them, and its split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from scripts.data import arc, ixi
from scripts.data.splits import PARTS, read_split, split_file, split_subjects, write_split
from scripts.io.write import write_json

__all__ = ["tell_datalists", "write_datalists"]

_ABOUT: dict[str, dict[str, Any]] = {
    "ixi": {
        "name": "IXI",
        "licence": "CC BY-SA 3.0",
        "reference": "https://brain-development.org/ixi-dataset/",
        "labels": ixi.TISSUE_CLASSES,
    },
    "arc": {
        "name": "Aphasia Recovery Cohort (ARC)",
        "licence": "CC0",
        "reference": "https://doi.org/10.18112/openneuro.ds004884.v1.0.2",
        "labels": arc.LESION_CLASSES,
    },
}


_PATTERNS = {
    "ixi": {modality: f"IXI*-{kind}.nii*" for modality, kind in ixi.MODALITIES.items()},
    "arc": {modality: f"sub-*/ses-*/anat/*_{modality}.nii*" for modality in arc.MODALITIES},
}


def write_datalists(root: Path, layout: str) -> dict[str, dict[str, int]]:
    """Split a prepared folder and write ``datalist-<modality>.json`` of each modality that it holds.

    IXI is split once over all subjects (``split.json``, trained on at Guy's), ARC by modality
    (``split-<modality>.json``), as the bundles do. A split that other subjects had before is replaced, and that
    is told.

    Args:
        root: the prepared folder.
        layout: ixi or arc.

    Returns:
        ``{modality: {part: number of images}}``. A datalist has the parts' entries with paths relative to
        ``root`` (`monai.data.load_decathlon_datalist` reads them), the name of the split's file and its SHA-256.
    """
    counts = {}
    for modality, pattern in _PATTERNS[layout].items():
        if next(root.glob(pattern), None) is None:
            continue
        entries = (ixi.find_ixi if layout == "ixi" else arc.find_arc)(root, modality)
        if layout == "ixi":
            split, file = _split_ixi(ixi.ixi_subjects(root)), split_file()
        else:
            split, file = split_subjects(entry["subject"] for entry in entries), split_file(modality)
        _replace_split(split, root / file)
        parts = {
            part: [_relative(entry, root) for entry in entries if entry["subject"] in split[part]] for part in PARTS
        }
        counts[modality] = {part: len(listed) for part, listed in parts.items()}
        write_json(root / f"datalist-{modality}.json", _content(layout, modality, parts, file, split["sha256"]))
    return counts


def tell_datalists(
    root: Path, counts: Mapping[str, Mapping[str, int]], published: Mapping[str, tuple[int, ...]] | None = None
) -> None:
    """Print how many subjects each part of each datalist has, and whether they are as many as in the paper.

    Args:
        root: the prepared folder.
        counts: result of `write_datalists`.
        published: modality -> subjects for training, validation and test.
    """
    for modality, parts in counts.items():
        sizes = ", ".join(f"{count} {part}" for part, count in parts.items())
        same = published is not None and tuple(parts.values()) == published[modality]
        as_published = ", as in the paper" if same else ""
        tqdm.write(f"Split: {modality}: {sizes}{as_published}  ({root / f'datalist-{modality}.json'})")


def _replace_split(split: Mapping[str, Any], path: Path) -> None:
    if path.is_file() and read_split(path)["sha256"] != split["sha256"]:
        tqdm.write(f"Split: {path} is made anew, as the subjects are others than last time; train anew with it")
    write_split(split, path)


def _split_ixi(names: Sequence[str]) -> dict[str, Any]:
    """Return the split; a part of the data that lacks the training site is split by its first site."""
    sites = {name.split("-")[1] for name in names}
    return ixi.split_ixi(names, training_site=min(sites, key=ixi.SITES.index))


def _relative(entry: Mapping[str, Any], root: Path) -> dict[str, Any]:
    def shorten(path: str) -> str:
        return Path(path).relative_to(root).as_posix()

    label = entry["label"]
    return {
        **entry,
        "image": shorten(entry["image"]),
        "label": shorten(label) if isinstance(label, str) else [shorten(path) for path in label],
    }


def _content(
    layout: str, modality: str, parts: Mapping[str, list[dict[str, Any]]], file: str, sha256: str
) -> dict[str, Any]:
    about = _ABOUT[layout]
    return {
        "name": about["name"],
        "licence": about["licence"],
        "reference": about["reference"],
        "modality": {"0": modality},
        "labels": {"0": "background", **{str(value): name for value, name in about["labels"].items()}},
        **{f"num{part.capitalize()}": len(listed) for part, listed in parts.items()},
        "split": file,
        "sha256": sha256,
        **parts,
    }
