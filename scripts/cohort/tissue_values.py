"""Quantitative MR values of brain tissue at 3 T, and the maps that a subject's tissue makes.

Sources: regional means of multi-parametric maps and their spread between people (Cooper et al. 2020, data
of clinicalMPM); R2 from GESSE at 3 T (Cox and Gowland 2010, MRM 64:1440); PD of white matter 69 to 70 with
fluid 100 (Oros-Peusquens 2019, Frontiers in Neurology 10:1333); changes in white-matter hyperintensities from
MPM of 245 patients. No absolute values of chronic stroke cavities are published: `cavity` is taken as nearly
fluid and `rim` as gliosis, an assumption.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from scripts.cohort.anatomy import Anatomy
from scripts.cohort.lattice import HEAD_BOX, Array, Box, Grid, sample_lattice, white_lattice
from scripts.cohort.lesion import Lesion
from scripts.cohort.template import TISSUES

__all__ = [
    "HYPERINTENSITY",
    "MAPS",
    "TABLE",
    "draw_texture",
    "draw_values",
    "paint_maps",
    "scale_to_field",
    "texture_fields",
]

MAPS = ("PD", "R1", "R2star", "R2", "MTsat")

# (mean, standard deviation between people, standard deviation within one person's tissue) of
# PD [p.u.], R1 [1/s], R2* [1/s], R2 [1/s], MTsat [p.u.], in the order of MAPS.
TABLE = MappingProxyType(
    {
        "grey": ((80, 1.0, 2.4), (0.62, 0.018, 0.04), (17, 0.8, 2.2), (13.5, 0.5, 0.8), (0.85, 0.05, 0.10)),
        "white": ((70, 0.6, 1.6), (0.95, 0.025, 0.042), (21, 0.7, 2.0), (14.1, 0.5, 0.7), (1.55, 0.05, 0.12)),
        "csf": (
            (100, 0.3, 1.5),
            (0.24, 0.010, 0.010),
            (2.0, 0.25, 0.35),
            (0.7, 0.1, 0.08),
            (0.03, 0.008, 0.012),
        ),
        "caudate": (
            (81, 1.0, 2.2),
            (0.665, 0.022, 0.035),
            (20, 1.5, 2.2),
            (14.5, 0.6, 0.7),
            (0.97, 0.05, 0.09),
        ),
        "putamen": (
            (79.5, 0.8, 2.2),
            (0.705, 0.018, 0.035),
            (22, 1.7, 2.5),
            (15.2, 0.7, 0.8),
            (1.03, 0.03, 0.09),
        ),
        "thalamus": (
            (77.5, 0.8, 2.2),
            (0.735, 0.02, 0.04),
            (20.5, 1.1, 2.2),
            (15, 0.6, 0.7),
            (1.16, 0.045, 0.10),
        ),
        "pallidum": (
            (75, 0.9, 1.8),
            (0.85, 0.025, 0.035),
            (33, 3.0, 3.0),
            (20, 1.4, 1.2),
            (1.32, 0.03, 0.09),
        ),
        "cavity": (
            (97.5, 1.0, 1.6),
            (0.265, 0.02, 0.012),
            (4.5, 1.2, 0.8),
            (2.0, 0.5, 0.3),
            (0.11, 0.03, 0.02),
        ),
        "rim": ((85.5, 1.5, 2.4), (0.56, 0.035, 0.035), (11, 1.2, 1.4), (8.0, 0.8, 0.7), (0.50, 0.07, 0.07)),
    }
)
HYPERINTENSITY = (3.0, -0.10, -4.5, -4.0, -0.48)
"""What a white-matter hyperintensity adds to its tissue, in the order of MAPS."""

# How the texture within a tissue follows myelin, follows iron, and is unstructured; per map, in shares of the
# within-tissue standard deviation.
_MYELIN = (-0.75, 0.75, 0.55, 0.55, 0.75)
_IRON = (0.0, 0.15, 0.6, 0.45, 0.0)
_FREE = 0.5
# Change of a map, relative to its mean, for a relative change of R1 between regions.
_REGIONAL = (-0.12, 1.0, 0.3, 0.2, 1.1)
_FLUID = ("csf", "cavity", "vitreous", "canal")
_REFERENCE = 3.0  # T, of the tissue tables
# value(B0) = value(3 T) (B0 / 3)^power for tissue: T1 ~ B0^0.38; R2* and R2 from T2* and T2 at 1.5 and 3 T
_FIELD_POWER = {"R1": -0.38, "R2star": 0.33, "R2": 0.19}
_LOWEST = (5.0, 0.05, 0.3, 0.1, 0.0)


def draw_values(rng: np.random.Generator) -> dict[str, Array]:
    """Draw one person's mean of every tissue and map: ``{tissue: (len(MAPS),)}``.

    Half the variance between people is shared by all tissues, as ageing and calibration move them together.
    """
    shared = rng.standard_normal(len(MAPS)).clip(-2.0, 2.0)
    values = {}
    for tissue, row in TABLE.items():
        mean, between, _ = np.array(row).T
        own = rng.standard_normal(len(MAPS)).clip(-2.0, 2.0)
        values[tissue] = (mean + between * np.sqrt(0.5) * (shared + own)).astype(np.float32)
    return values


def scale_to_field(values: Mapping[str, Array], field_strength: float) -> dict[str, Array]:
    """Return tissue values (len(MAPS),) of 3 T at another field [T]; fluid keeps its R1 and R2."""
    ratio = field_strength / _REFERENCE
    scaled = {}
    for tissue, row in values.items():
        kept = ("R1", "R2") if tissue in _FLUID else ()
        powers = [0.0 if name in kept else _FIELD_POWER.get(name, 0.0) for name in MAPS]
        scaled[tissue] = (row * ratio ** np.asarray(powers)).astype(np.float32)
    return scaled


def paint_maps(
    anatomy: Anatomy,
    values: dict[str, Array],
    rng: np.random.Generator,
    *,
    lesion: Lesion | None = None,
    hyperintensity: Array | None = None,
) -> dict[str, Array]:
    """Mix tissue values by volume fraction, add texture, and lay the lesion over them.

    Args:
        anatomy: Tissue fractions of N voxels.
        values: One person's tissue means, from `draw_values`.
        rng: Draws the texture.
        lesion: Weights of cavity and rim.
        hyperintensity: (N,) weight of white-matter hyperintensities, 0 to 1.

    Returns:
        ``{map: (N,)}`` for PD [p.u.], R1, R2star, R2 [1/s] and MTsat [p.u.]; all positive, MTsat at least 0.
    """
    tissues, weights = _weights(anatomy, lesion)
    myelin, iron = texture_fields(rng, anatomy.grid, anatomy.brain)
    grey, white = (weights[TISSUES.index(name)] for name in ("grey", "white"))
    maps: dict[str, Array] = {}
    for index, name in enumerate(MAPS):
        mean = [values[tissue][index] for tissue in tissues]
        within = [TABLE[tissue][index][2] for tissue in tissues]
        mixed = np.array([mean, within], np.float32) @ weights
        signal: Array = mixed[0] + mixed[1] * draw_texture(index, myelin, iron, rng)
        gain = np.float32(_REGIONAL[index])
        signal += gain * anatomy.regional * (mean[0] * grey + mean[1] * white)
        if hyperintensity is not None:
            signal += np.float32(HYPERINTENSITY[index]) * hyperintensity
        maps[name] = np.maximum(signal, np.float32(_LOWEST[index]))
    return maps


def _weights(anatomy: Anatomy, lesion: Lesion | None) -> tuple[tuple[str, ...], Array]:
    """Names and weights (K, N) of all tissues, the lesion's two last."""
    if lesion is None:
        return TISSUES, anatomy.fractions
    cavity = lesion.extent * lesion.cavity
    rim = (lesion.extent - cavity) * lesion.gliosis
    kept = anatomy.fractions * (1.0 - cavity - rim)
    return (*TISSUES, "cavity", "rim"), np.vstack([kept, cavity, rim])


def texture_fields(
    rng: np.random.Generator, grid: Grid, inside: NDArray[np.bool_], box: Box = HEAD_BOX
) -> tuple[Array, Array]:
    """Two unit-variance fields (N,), myelin and iron, mixed from a broad (18 mm) and a fine (4 mm) scale.

    Args:
        rng: Draws them.
        grid: Of I x J x K voxels.
        inside: (I, J, K) mask of the N voxels wanted.
        box: What the fields cover, see `scripts.cohort.lattice`.
    """
    axes = grid.axes()
    broad = sample_lattice(white_lattice(rng, 18.0, 2, box), axes)[:, inside]
    fine = sample_lattice(white_lattice(rng, 4.0, 2, box), axes)[:, inside]
    fields = np.float32(0.7) * broad + np.float32(0.714) * fine
    myelin, iron = fields
    return myelin, iron


def draw_texture(index: int, myelin: Array, iron: Array, rng: np.random.Generator) -> Array:
    """Return the texture (N,) of map ``index`` of `MAPS`, in standard deviations within a tissue."""
    texture = rng.standard_normal(len(myelin), dtype=np.float32) * np.float32(_FREE)
    texture += np.float32(_MYELIN[index]) * myelin + np.float32(_IRON[index]) * iron
    return texture
