"""Who a subject is, and the brain that follows from it: shared by every embedded cohort."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.cohort.anatomy import Anatomy, Shape, build_anatomy, draw_shape
from scripts.cohort.lattice import Array, Grid, stream
from scripts.cohort.lesion import Lesion, LesionPlan, draw_lesion, grow_hyperintensity, grow_lesion
from scripts.cohort.template import TISSUES

__all__ = ["Person", "draw_person", "draw_person_shape", "make_brain", "segment"]


@dataclass(frozen=True)
class Person:
    """What is drawn about a subject before its anatomy; ``lesion`` is None in the healthy."""

    number: int
    sex: str
    age: int
    lesion: LesionPlan | None

    @property
    def name(self) -> str:
        """BIDS subject label, sub-001 on."""
        return f"sub-{self.number:03d}"

    @property
    def group(self) -> str:
        """``healthy`` or ``stroke``."""
        return "stroke" if self.lesion else "healthy"


def draw_person(number: int, seed: int, stroke_fraction: float = 29 / 51) -> Person:
    """Draw who subject ``number`` (from 1) is; the groups alternate."""
    rng = stream(seed, number, "person")
    reached, before = (int(np.floor(stroke_fraction * n + 1e-9)) for n in (number, number - 1))
    is_stroke = reached > before
    sex = "F" if rng.random() < 0.5 else "M"
    age = rng.normal(61.0, 10.0) if is_stroke else rng.uniform(20.0, 78.0)
    lesion = draw_lesion(stream(seed, number, "lesion")) if is_stroke else None
    return Person(number, sex, int(np.clip(age, 20, 85)), lesion)


def draw_person_shape(person: Person, seed: int) -> Shape:
    """Shape of one subject; ventricles widen with age and beside a lesion."""
    rng = stream(seed, person.number, "shape")
    ageing = _ageing(person)
    growth = np.clip(rng.normal(0.4 + 3.2 * ageing, 0.9), -0.5, 6.0)
    ventricles = np.array([growth, growth]) + rng.normal(0.0, 0.3, 2)
    if person.lesion:
        ventricles[int(person.lesion.side > 0)] += 3.5 * min(person.lesion.volume_ml / 120.0, 1.0)
    ventricles = np.clip(ventricles, -0.5, 8.0)
    size = (1.02 if person.sex == "M" else 0.975) * np.exp(rng.normal(0.0, 0.015))
    atrophy = 0.9 * ageing + rng.normal(0.0, 0.15)
    return draw_shape(rng, size=size, ventricles=(ventricles[0], ventricles[1]), atrophy=atrophy)


def make_brain(
    person: Person, seed: int, grid: Grid, shape: Shape | None = None
) -> tuple[Anatomy, Lesion | None, Array | None]:
    """Anatomy and pathology of one subject; its ``shape`` where it is known already."""
    shape = shape or draw_person_shape(person, seed)
    anatomy = build_anatomy(shape, grid, stream(seed, person.number, "folds"))
    pathology = stream(seed, person.number, "pathology")
    amount = 0.012 * _ageing(person) * pathology.random() ** 2
    lesion = grow_lesion(person.lesion, anatomy, pathology) if person.lesion else None
    spots = grow_hyperintensity(amount, anatomy, pathology) if amount > 0.001 else None
    return anatomy, lesion, spots


def _ageing(person: Person) -> float:
    return max(person.age - 40, 0) / 40.0


def segment(anatomy: Anatomy, lesion: Lesion | None) -> NDArray[np.uint8]:
    """Discrete segmentation (N,): 1 grey, 2 white, 3 fluid, 4 deep grey, 5 lesion."""
    code = np.array([{"grey": 1, "white": 2, "csf": 3}.get(tissue, 4) for tissue in TISSUES], np.uint8)
    labels: NDArray[np.uint8] = code[anatomy.fractions.argmax(0)]
    if lesion is not None:
        labels[lesion.mask] = 5
    return labels
