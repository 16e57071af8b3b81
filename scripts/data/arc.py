"""The Aphasia Recovery Cohort (OpenNeuro ds004884), or a BIDS set laid out alike: images and lesion masks."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header
from scripts.io.resample import voxel_sizes
from scripts.tasks import TASKS

__all__ = ["LESION_CLASSES", "MODALITIES", "arc_subjects", "choose_image", "find_arc"]

MODALITIES = TASKS["arc_lesion"].modalities
LESION_CLASSES = TASKS["arc_lesion"].classes

_MASKS = Path("derivatives") / "lesion_masks"
_ENDING = "_desc-lesion_mask"
_MASK = re.compile(rf"(sub-[A-Za-z0-9]+)_(?:ses-([A-Za-z0-9]+)_)?.*T2w{_ENDING}\.nii(\.gz)?")

logger = logging.getLogger(__name__)


def find_arc(folder: str | Path, modality: str = "T2w", *, labels: bool = True) -> list[dict[str, Any]]:
    """Return the images of one modality in the sessions that have a lesion mask, sorted by subject.

    A mask lies on the grid of the T2w of its session. T1w and FLAIR have grids of their own in the same world;
    where a session holds several of them, `choose_image` tells which is taken.

    Args:
        folder: root of the BIDS dataset, with ``derivatives/lesion_masks``.
        modality: T1w, T2w or FLAIR.
        labels: whether entries have the key ``label``.

    Returns:
        ``[{"subject", "site", "modality", "image", "label"}]``; the site is ARC for all.

    Raises:
        InputError: for a folder or modality that is not there, two masks of one subject, a mask without its
            T2w, or on another grid than it.
    """
    if modality not in MODALITIES:
        raise InputError(f"modality={modality!r} is none of ARC's: choose {', '.join(MODALITIES)}")
    root, entries, lacking = Path(folder), [], 0
    for subject, mask in _masks(root).items():
        image = _image(root, mask, modality)
        if image is None:
            lacking += 1
            continue
        entry = {"subject": subject, "site": "ARC", "modality": modality, "image": str(image)}
        entries.append({**entry, "label": str(mask)} if labels else entry)
    if not entries:
        raise InputError(f"{root} holds no {modality} in a session with a lesion mask: choose another --modality")
    if lacking:
        logger.info("%d of %d subjects with a lesion mask have no %s", lacking, lacking + len(entries), modality)
    return entries


def choose_image(choices: Iterable[Path]) -> Path:
    """Return which of several images of one modality and session is taken.

    That of the finest voxels (by their longest side), so that 3D scans come before thick slices; among equals
    the one of the highest run, as a scan is repeated where the first was spoilt; then the last by name.

    Raises:
        InputError: for an unreadable file.
    """

    def rank(path: Path) -> tuple[float, int, str]:
        side = max(voxel_sizes(read_header(path).affine))
        run = re.search(r"_run-(\d+)_", path.name)
        return -round(side, 2), int(run[1]) if run else 0, path.name

    return max(choices, key=rank)


def arc_subjects(folder: str | Path) -> list[str]:
    """Return the names of all subjects with a lesion mask, sorted."""
    return list(_masks(Path(folder)))


def _masks(root: Path) -> dict[str, Path]:
    if not root.is_dir():
        raise InputError(f"dataset_dir {root} does not exist: give the root of the ARC dataset, or 'embedded'")
    found: dict[str, Path] = {}
    for path in sorted((root / _MASKS).rglob(f"*{_ENDING}.nii*")):
        name = _MASK.fullmatch(path.name)
        if name is None:
            continue
        if name[1] in found:
            raise InputError(f"{path} is the second lesion mask of {name[1]}: keep one mask a subject")
        found[name[1]] = path
    if not found:
        raise InputError(f"{root / _MASKS} holds no lesion mask (*{_ENDING}.nii.gz): download the derivatives as well")
    return found


def _image(root: Path, mask: Path, modality: str) -> Path | None:
    anat = root / mask.parent.relative_to(root / _MASKS)
    reference = anat / mask.name.replace(_ENDING, "")
    if not reference.is_file():
        raise InputError(f"{reference} is missing, the T2w of {mask.name}: download it, or remove the mask")
    # a mask off its T2w is off the session's other images as well, whose grids cannot tell
    check_same_grid(read_header(reference), read_header(mask))
    if modality == "T2w":
        return reference
    choices = [path for path in anat.glob(f"*_{modality}.nii*") if path.name.endswith((".nii", ".nii.gz"))]
    return choose_image(choices) if choices else None
