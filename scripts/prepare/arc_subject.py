"""One subject of ARC: the session with the lesion mask, its T1w and FLAIR registered to its T2w."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scripts.data.arc import LESION_CLASSES, MODALITIES, choose_image
from scripts.errors import InputError
from scripts.io.header import check_same_grid
from scripts.io.read import read_header, read_volume
from scripts.io.volume_reader import load_volume
from scripts.io.write import move_volume, write_json
from scripts.prepare.records import Record, finish_subject, hidden, part_folder
from scripts.prepare.registration import register_rigid
from scripts.transforms.load_labels import LoadLabelsd

__all__ = ["Session", "find_sessions", "make_subject"]

_MASKS = Path("derivatives") / "lesion_masks"
_ENDING = "_desc-lesion_mask"
_NAME = re.compile(rf"(sub-[A-Za-z0-9]+)_(?:ses-[A-Za-z0-9]+_)?.*T2w{_ENDING}\.nii(?:\.gz)?")


@dataclass
class Session:
    """Files of the session of a subject's mask, relative to the root of the dataset.

    Attributes:
        masks: one, if all is well.
        images: of each modality.
        unfetched: modality -> why images are left out: a DataLad clone has links to content that may be elsewhere.
        sizes: name -> size [bytes] of each file that is there.
    """

    masks: list[Path] = field(default_factory=list)
    images: dict[str, list[Path]] = field(default_factory=dict)
    unfetched: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def inputs(self) -> dict[str, int]:
        """Return name -> size [bytes] of each file."""
        return self.sizes


def find_sessions(source: Path) -> dict[str, Session]:
    """Return the session of each subject that has a lesion mask, sorted by subject.

    Args:
        source: root of the dataset.

    Raises:
        InputError: if there is no mask.
    """
    found: dict[str, Session] = {}
    for mask in sorted((source / _MASKS).rglob(f"*{_ENDING}.nii*")):
        name = _NAME.fullmatch(mask.name)
        if name:
            found.setdefault(name[1], Session()).masks.append(mask.relative_to(source))
    if not found:
        raise InputError(
            f"{source / _MASKS} holds no lesion mask (*{_ENDING}.nii.gz): give the root of ds004884, or add --download"
        )
    for session in found.values():
        _find_images(source, session)
    return dict(sorted(found.items()))


def _find_images(source: Path, session: Session) -> None:
    anat = session.masks[0].parent.relative_to(_MASKS)
    for modality in MODALITIES:
        paths = [p for p in (source / anat).glob(f"*_{modality}.nii*") if p.name.endswith((".nii", ".nii.gz"))]
        session.images[modality] = sorted(path.relative_to(source) for path in paths if path.exists())
        links = [path for path in paths if not path.exists()]
        if links and modality != "T2w":
            session.unfetched[modality] = f"{links[0]} is a link to content that was not fetched: type 'datalad get'"
    files = [*session.masks, *(path for paths in session.images.values() for path in paths)]
    present = [path for path in (*files, *map(_sidecar, files)) if (source / path).is_file()]
    session.sizes = {path.as_posix(): (source / path).stat().st_size for path in sorted(present)}


def make_subject(name: str, *, root: Path, source: Path, sessions: Mapping[str, Session]) -> None:
    """Prepare one subject.

    Args:
        name: of the subject, such as sub-M2001.
        root: the prepared folder.
        source: root of the dataset.
        sessions: result of `find_sessions`.

    Raises:
        InputError: for two masks, a mask without its T2w, on another grid or with other values than 0 and 1, a
            damaged file, or a registration that fails.
    """
    session = sessions[name]
    if len(session.masks) > 1:
        one, other = (path.as_posix() for path in session.masks[:2])
        raise InputError(f"{source / other} is the second lesion mask of {name} beside {one}: keep one a subject")
    (mask,) = session.masks
    reference = mask.parent.relative_to(_MASKS) / mask.name.replace(_ENDING, "")
    notes, measures = _check_mask(source, mask, reference), dict[str, float]()
    part, files = part_folder(root, name), list[str]()
    for path in (reference, _sidecar(reference)):
        files += _copy(source, path, part)
    for modality in ("T1w", "FLAIR"):
        choices = session.images[modality]
        if choices:
            files += _register(source, choices, reference, part, notes, measures)
    for path in (_sidecar(mask), mask):  # the mask comes last: with it, the subject counts
        files += _copy(source, path, part)
    finish_subject(root, "arc", name, part, Record(session.inputs(), files, notes, measures=measures))


def _check_mask(source: Path, mask: Path, reference: Path) -> list[str]:
    """Check a mask against its T2w and return what a user should know."""
    notes: list[str] = []
    _require(source / reference, f"the T2w of {mask.name}")
    _require(source / mask, "a lesion mask")
    header = read_header(source / reference)
    check_same_grid(header, read_header(source / mask))
    given: dict[Hashable, Any] = {"image": load_volume(source / reference), "label": str(source / mask)}
    label = LoadLabelsd("label", LESION_CLASSES)(given)["label"]
    if not bool(label.any()):
        notes.append("the lesion mask is empty")
    sidecar = source / _sidecar(mask)
    if not sidecar.is_file():
        notes.append("the mask has no sidecar: its T2w is known by name")
        return notes
    told = str(_read_sidecar(sidecar).get("SpatialReference", ""))
    if told and Path(told.removeprefix("bids:raw:")).name != reference.name:
        raise InputError(
            f"{sidecar} says that the mask belongs to {told}, not to {reference.name}: correct one of them"
        )
    return notes


def _register(
    source: Path,
    choices: list[Path],
    reference: Path,
    part: Path,
    notes: list[str],
    measures: dict[str, float],
) -> list[str]:
    """Register one of several images to the T2w and return the files written."""
    path = choose_image(source / choice for choice in choices)
    modality = path.name.removesuffix(".gz").removesuffix(".nii").rsplit("_", 1)[1]
    if len(choices) > 1:
        notes.append(f"{len(choices)} {modality}: took {path.name}")
    fixed, fixed_affine = read_volume(source / reference)
    moving, moving_affine = read_volume(path)
    if not (moving > 0).any():
        raise InputError(f"{path} holds no voxel above 0: download it again, or remove it")
    rigid = register_rigid(moving, moving_affine, fixed, fixed_affine, name=f"{path} to {reference.name}")
    stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(f"_{modality}")
    file = (reference.parent / f"{stem}_space-T2w_{modality}.nii.gz").as_posix()
    move_volume(path, hidden(part, file), rigid.matrix)
    measures[f"{modality} to T2w, turned [deg]"] = round(rigid.angle, 2)
    measures[f"{modality} to T2w, moved [mm]"] = round(rigid.shift, 2)
    sidecar = _sidecar(path)
    content = _read_sidecar(sidecar) if sidecar.is_file() else {}
    if not content:
        notes.append(f"{modality} has no sidecar")
    content |= {
        "SpatialReference": f"bids::{reference.as_posix()}",
        "Sources": [f"bids:raw:{path.relative_to(source).as_posix()}"],
        "RigidTransform": np.round(rigid.matrix, 6).tolist(),
        "Description": "voxels as scanned; the affine was moved by RigidTransform (source world to T2w world [mm])",
    }
    written = _sidecar(Path(file)).as_posix()
    write_json(hidden(part, written), content)
    return [written, file]


def _copy(source: Path, path: Path, part: Path) -> list[str]:
    """Copy a file of the dataset if it is there; returns its name in a list."""
    if not (source / path).is_file():
        return []
    shutil.copyfile(source / path, hidden(part, path.as_posix()))
    return [path.as_posix()]


def _require(path: Path, what: str) -> None:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{path}, {what}, is a link to content that was not fetched: type 'datalad get {path}'")
    if not path.is_file():
        raise InputError(f"{path} is missing, {what}: download it, or remove the mask")


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def _read_sidecar(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no readable JSON ({error}): download it again") from error
    return found if isinstance(found, dict) else {}
