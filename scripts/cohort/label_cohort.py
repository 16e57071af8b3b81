"""Subjects of the qMRI cohort that are made from label maps of people's heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scripts.cohort import readmes
from scripts.cohort.label_head import LESION, LabelHead, Place, mix_head, place_head
from scripts.cohort.label_lesion import draw_lesion_masks, find_lesion_masks, lay_lesion
from scripts.cohort.label_maps import LabelMap, digest, find_label_maps, read_label_map
from scripts.cohort.label_outer import split_soft_tissue
from scripts.cohort.label_shape import draw_deformation, label_grid
from scripts.cohort.label_tissues import TISSUES, draw_tissues
from scripts.cohort.lattice import Array, stream
from scripts.cohort.lesion import Lesion
from scripts.cohort.person import Person
from scripts.cohort.qmri_files import write_subject
from scripts.cohort.tissue_values import scale_to_field
from scripts.errors import InputError
from scripts.io.write import write_text

__all__ = ["LabelSource", "find_source", "make_label_head", "make_label_subject", "write_people"]

# Bumped whenever the same seed no longer gives the same bytes.
_VERSION = 1


@dataclass(frozen=True)
class LabelSource:
    """What heads are made from.

    Attributes:
        maps: label maps by the names of people.
        whole_heads: whether all of the head is wanted.
        lesions: masks of lesions in MNI space; may be empty.
        digest: what tells these files from others.
    """

    maps: dict[str, Path]
    whole_heads: bool
    lesions: tuple[Path, ...]
    digest: str

    @property
    def settings(self) -> dict[str, Any]:
        """What the bytes of a head depend on."""
        told = {"label_maps": self.digest, "label_version": _VERSION, "whole_heads": self.whole_heads}
        return told if not self.lesions else {**told, "lesions": digest({path.name: path for path in self.lesions})}

    @property
    def readme(self) -> str:
        """What the cohort says about itself."""
        return readmes.QMRI_LABEL_MAPS.format(what="the head" if self.whole_heads else "the brain")

    def person(self, number: int) -> str:
        """Return whose head subject ``number`` (from 1) is: one of each person, then the next of each."""
        return list(self.maps)[(number - 1) % len(self.maps)]

    def masks(self, number: int) -> tuple[Path, ...]:
        """Return the lesions that subject ``number`` may have: no two people share one, if there are enough."""
        people = len(self.maps)
        return self.lesions[(number - 1) % people :: people] or self.lesions

    def is_first(self, number: int) -> bool:
        """Return whether subject ``number`` is the first of its person."""
        return number <= len(self.maps)


def find_source(
    label_maps: str | Path | None, *, whole_heads: bool, lesions: str | Path | None = None
) -> LabelSource | None:
    """Return what heads are to be made from; None for the embedded anatomy.

    Raises:
        InputError: if a folder lacks what it should hold, or settings are given that need label maps.
    """
    if not label_maps:
        for name, value in (("whole_heads", whole_heads), ("lesions", lesions)):
            if value:
                raise InputError(f"{name} is for heads from label maps: give label_maps, or leave {name} out")
        return None
    maps = find_label_maps(label_maps)
    masks = find_lesion_masks(lesions) if lesions else ()
    return LabelSource(maps, bool(whole_heads), masks, digest(maps))


def make_label_head(
    source: LabelSource,
    index: int,
    number: int,
    seed: int,
    spacing: float,
    *,
    has_lesion: bool,
    field_strength: float | None = None,
) -> tuple[Place, LabelHead]:
    """Return a head and where its voxels lie.

    Args:
        source: what heads are made from.
        index: which head, from 1, see `LabelSource.person`.
        number: of the subject, by which all is drawn.
        seed: of the cohort.
        spacing: of its voxels [mm].
        has_lesion: whether it has a lesion.
        field_strength: [T] at which its tissues are measured; None is that of the tables, 3 T.

    Raises:
        InputError: if the label map cannot be used, or no lesion meets the brain.
    """
    name = source.person(index)
    person = read_label_map(source.maps[name], name)
    whole = source.whole_heads
    if whole and not person.is_whole:
        raise InputError(f"{source.maps[name]} has no labels outside the brain: leave whole_heads out")
    shape = draw_deformation(person, stream(seed, number, "shape"), mild=source.is_first(index))
    tissues = split_soft_tissue(person, stream(seed, number, "folds")) if whole else person.tissues
    place = place_head(person, shape, label_grid(spacing, whole_head=whole), whole_head=whole)
    means, spreads = draw_tissues(stream(seed, number, "tissue"))
    if field_strength is not None:
        names = [tissue.name for tissue in TISSUES]
        means[1:] = list(scale_to_field(dict(zip(names, means[1:], strict=True)), field_strength).values())
    lay = partial(_lay, person, place, source.masks(index), number, seed) if has_lesion else None
    return place, mix_head(person, tissues, place, (means, spreads), stream(seed, number, "noise"), lay=lay)


def make_label_subject(root: Path, person: Person, seed: int, spacing: float, source: LabelSource) -> None:
    """Make one subject from its person's label map and write it below ``root``, whole or not at all."""
    number, has_lesion = person.number, person.lesion is not None
    place, head = make_label_head(source, number, number, seed, spacing, has_lesion=has_lesion)
    mask = head.segments == LESION if has_lesion else None
    whole = source.whole_heads
    write_subject(root, person.name, place.grid, place.volume, head.maps, head.segments, mask, whole_head=whole)


def write_people(root: Path, people: dict[str, str]) -> None:
    """Write whose head each subject is, as ``participants.tsv``."""
    rows = [f"{subject}\t{person}" for subject, person in people.items()]
    write_text(root / "participants.tsv", "\n".join(["participant_id\tperson", *rows]) + "\n")


def _lay(person: LabelMap, place: Place, masks: tuple[Path, ...], number: int, seed: int, fluid: Array) -> Lesion:
    """Lay the first of some drawn lesions that leaves something in the head's parenchyma."""
    for mask, affine in draw_lesion_masks(masks, stream(seed, number, "lesion")):
        lesion = lay_lesion(mask, affine, person, place, fluid, stream(seed, number, "pathology"))
        if lesion.mask.any():
            return lesion
    raise InputError(f"no lesion meets the brain of {person.name}: give masks of lesions in MNI space")
