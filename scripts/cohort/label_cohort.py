"""Subjects of the qMRI cohort that are made from label maps of people's heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scripts.cohort.label_head import LESION, Place, mix_head, place_head
from scripts.cohort.label_lesion import draw_lesion_masks, find_lesion_masks, lay_lesion
from scripts.cohort.label_maps import LabelMap, digest, find_label_maps, read_label_map
from scripts.cohort.label_outer import split_soft_tissue
from scripts.cohort.label_shape import draw_deformation, label_grid
from scripts.cohort.label_tissues import draw_tissues
from scripts.cohort.lattice import Array, stream
from scripts.cohort.lesion import Lesion
from scripts.cohort.person import Person
from scripts.cohort.qmri_files import write_subject
from scripts.errors import InputError

__all__ = ["LabelSource", "find_source", "make_label_subject"]

# Bumped whenever the same seed no longer gives the same bytes.
_VERSION = 1

_README = """Embedded qMRI cohort from label maps (simulated)

These are not measurements of people. Quantitative maps of proton density (PDmap), R1 (R1map), R2* (R2starmap), R2
(R2map) and magnetisation transfer saturation (MTsat) were simulated at 3 T from label maps of individual people's
heads, which the user gave: participants.tsv names the map of each subject as its person. The first head of a person
is nearly that anatomy, the next ones are smooth deformations of it. Subjects of one person must stay on one side of
any split. Tissue values are from the literature; those of what surrounds the brain, and of lesions, are assumptions.

dseg.tsv names the labels of *_dseg.nii.gz; *_desc-lesion_mask.nii.gz marks the lesion. Maps are 0 outside {what}.
cohort.json holds the settings: the same settings and label maps give the same bytes.
"""


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
        return _README.format(what="the head" if self.whole_heads else "the brain")

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


def find_source(label_maps: str | Path | None, *, whole_heads: bool, lesions: str | Path | None) -> LabelSource | None:
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


def make_label_subject(root: Path, person: Person, seed: int, spacing: float, source: LabelSource) -> None:
    """Make one subject from its person's label map and write it below ``root``, whole or not at all."""
    number, name = person.number, source.person(person.number)
    head = read_label_map(source.maps[name], name)
    if source.whole_heads and not head.is_whole:
        raise InputError(f"{source.maps[name]} has no labels outside the brain: leave whole_heads out")
    grid = label_grid(spacing, whole_head=source.whole_heads)
    shape = draw_deformation(head, stream(seed, number, "shape"), mild=source.is_first(number))
    tissues = split_soft_tissue(head, stream(seed, number, "folds")) if source.whole_heads else head.tissues
    place = place_head(head, shape, grid, whole_head=source.whole_heads)
    values = draw_tissues(stream(seed, number, "tissue"))
    lay = partial(_lay, head, place, source, number, seed) if person.lesion else None
    made = mix_head(head, tissues, place, values, stream(seed, number, "noise"), lay=lay)
    write_subject(
        root,
        person.name,
        grid,
        place.volume,
        made.maps,
        made.segments,
        made.segments == LESION if person.lesion else None,
        whole_head=source.whole_heads,
    )


def _lay(head: LabelMap, place: Place, source: LabelSource, number: int, seed: int, fluid: Array) -> Lesion:
    """Lay the first of some drawn lesions that leaves something in the head's parenchyma."""
    for mask, affine in draw_lesion_masks(source.masks(number), stream(seed, number, "lesion")):
        lesion = lay_lesion(mask, affine, head, place, fluid, stream(seed, number, "pathology"))
        if lesion.mask.any():
            return lesion
    raise InputError(f"no lesion meets the brain of {head.name}: give masks of lesions in MNI space")
