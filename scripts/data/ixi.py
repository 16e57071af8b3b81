"""The IXI dataset, or one laid out alike: images and SPM's tissue maps of three sites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.data.splits import split_subjects
from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header
from scripts.tasks import TASKS

__all__ = ["DEGENERATE", "MODALITIES", "SITES", "TISSUE_CLASSES", "find_ixi", "ixi_subjects", "split_ixi"]

SITES = ("Guys", "HH", "IOP")
MODALITIES = {"T1w": "T1", "T2w": "T2", "PDw": "PD", "FLAIR": "FLAIR"}
"""Modality -> ending of its files; IXI itself has no FLAIR."""
TISSUE_CLASSES = TASKS["ixi_seg"].classes

DEGENERATE = frozenset({("IXI014-HH-1236", "T2"), ("IXI014-HH-1236", "PD")})
"""Images with 28 slices of 5 mm instead of some 130 of 1.25 mm: nothing is trained or tested on them."""

_NAME = re.compile(r"(IXI\d{3}-(Guys|HH|IOP)-\d{4})-(T1|T2|PD|FLAIR)\.nii(\.gz)?")


def find_ixi(folder: str | Path, modality: str = "T1w", *, labels: bool = True) -> list[dict[str, Any]]:
    """Return the images of one modality, sorted by subject, each with its tissue maps where asked for.

    Args:
        folder: holds files such as ``IXI002-Guys-0828-T1.nii.gz``, at any depth.
        modality: T1w, T2w, PDw or FLAIR.
        labels: whether the tissue maps of SPM, ``c1<image>`` (grey), ``c2`` (white) and ``c3`` (fluid), must
            lie beside each image.

    Returns:
        ``[{"subject", "site", "modality", "image", "label"}]``: the label is the list of the three maps. Files
        known to be degenerate (T2 and PD of IXI014-HH-1236) are left out.

    Raises:
        InputError: for a folder or modality that is not there, a map that is missing or lies on another grid,
            or two files of one subject.
    """
    files = _files(folder)
    if modality not in MODALITIES:
        raise InputError(f"modality={modality!r} is none of IXI's: choose {', '.join(MODALITIES)}")
    suffix = MODALITIES[modality]
    entries: dict[str, dict[str, Any]] = {}
    for path, (subject, site, kind) in files:
        if kind != suffix or (subject, kind) in DEGENERATE:
            continue
        if subject in entries:
            raise InputError(f"{path} and {entries[subject]['image']} are the same image: remove one of them")
        entry = {"subject": subject, "site": site, "modality": modality, "image": str(path)}
        entries[subject] = {**entry, "label": _tissue_maps(path)} if labels else entry
    if not entries:
        raise InputError(f"{folder} holds no {modality} image (IXI*-{suffix}.nii.gz): choose another --modality")
    return [entries[subject] for subject in sorted(entries)]


def ixi_subjects(folder: str | Path) -> list[str]:
    """Return the names of all subjects that have an image of any modality, sorted."""
    return sorted({subject for _, (subject, _, _) in _files(folder)})


def split_ixi(
    names: Iterable[str],
    fractions: Sequence[float] = (0.7, 0.1),
    training_site: str = "Guys",
    people: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a split by subject: the training site is divided, all subjects of other sites are test subjects.

    Made over the subjects of all modalities, so that nobody is trained on in one and tested in another.

    Args:
        names: of subjects, such as IXI002-Guys-0828.
        fractions: of the training site, for training and validation; its rest is tested on, too.
        training_site: Guys, HH or IOP.
        people: name -> person, where several subjects are one person's, see `scripts.data.splits.split_subjects`.

    Raises:
        InputError: if the training site has no subject.
    """
    names = sorted(set(names))
    inside = [name for name in names if name.split("-")[1] == training_site]
    if not inside:
        raise InputError(f"no subject of site {training_site} to train on: add some, or name another --training_site")
    outside = [name for name in names if name not in set(inside)]
    return split_subjects(inside, fractions, test=outside, people=people)


def _files(folder: str | Path) -> list[tuple[Path, tuple[str, str, str]]]:
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"dataset_dir {folder} does not exist: give the folder of the IXI images, or 'embedded'")
    found = []
    for path in sorted(folder.rglob("IXI*")):
        name = _NAME.fullmatch(path.name)
        if name:
            found.append((path, (name[1], name[2], name[3])))
    if not found:
        raise InputError(f"{folder} holds no file named as IXI's (IXI002-Guys-0828-T1.nii.gz): give another folder")
    return found


def _tissue_maps(image: Path) -> list[str]:
    header = read_header(image)
    maps = []
    for number, tissue in TISSUE_CLASSES.items():
        stem = image.name.removesuffix(".gz").removesuffix(".nii")
        choices = [image.with_name(f"c{number}{stem}{ending}") for ending in (".nii.gz", ".nii")]
        found = next((path for path in choices if path.is_file()), None)
        if found is None:
            raise InputError(f"{choices[0]} ({tissue}) is missing: segment {image.name} with SPM, or remove it")
        check_same_grid(header, read_header(found))
        maps.append(str(found))
    return maps
