"""Tissues that label maps of whole heads tell apart, and what a person's tissues measure at 3 T.

Ids are FreeSurfer's; those from 502 on lie outside the brain, as SimNIBS numbers them and SynthSeg's training maps
carry them. Values of the brain are `scripts.cohort.tissue_values.TABLE`'s; those of its other regions keep the ratio
to white matter or the difference to cortex that multi-parametric maps show (Cooper et al. 2020, data of clinicalMPM);
those around the brain are `scripts.cohort.head.OUTER`'s, but muscle, whose fat is told apart here, is nearer to
T1 1412 and T2 50 ms (Stanisz 2005, MRM 54:507). Blood: T1 1.65 s at 3 T (Lu 2004, MRM 52:679) and T2 of about
80 ms. Mucosa and choroid plexus are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from scripts.cohort.head import OUTER
from scripts.cohort.lattice import Array
from scripts.cohort.tissue_values import HYPERINTENSITY, MAPS, TABLE, draw_values

__all__ = ["AIR", "BRAIN", "CODES", "SEGMENTS", "TISSUES", "Tissue", "draw_tissues", "to_tissues"]

AIR = 0
"""Code of what is no tissue."""


@dataclass(frozen=True)
class Tissue:
    """One tissue: its name, what a segmentation calls it (see `SEGMENTS`), ids."""

    name: str
    segment: int
    ids: tuple[int, ...]


TISSUES = (
    Tissue("grey", 1, (3, 42, 26, 58, 80, 81, 82)),
    Tissue("hippocampus", 1, (17, 53, 18, 54)),
    Tissue("cerebellar_grey", 1, (8, 47, 172)),
    Tissue("white", 2, (2, 41, 85, 192, 250, 251, 252, 253, 254, 255, 5001, 5002)),
    Tissue("hyperintensity", 2, (25, 57, 77, 78, 79)),
    Tissue("cerebellar_white", 2, (7, 46)),
    Tissue("brainstem", 2, (16, 170, 171, 173, 174, 175, 178)),
    Tissue("ventral_dc", 2, (28, 60)),
    Tissue("csf", 3, (4, 43, 5, 44, 14, 15, 24, 30, 62, 72)),
    Tissue("choroid", 3, (31, 63, 136, 137, 163, 164)),
    Tissue("caudate", 4, (11, 50)),
    Tissue("putamen", 4, (12, 51)),
    Tissue("thalamus", 4, (9, 48, 10, 49)),
    Tissue("pallidum", 4, (13, 52)),
    Tissue("vitreous", 0, (506,)),
    Tissue("muscle", 0, (507, 508)),
    Tissue("mucosa", 0, (509,)),
    Tissue("skin", 0, (511,)),
    Tissue("cord", 0, (512, 530)),
    Tissue("blood", 0, (502, 514)),
    Tissue("bone", 0, (515,)),
    Tissue("marrow", 0, (516,)),
    Tissue("fat", 0, ()),
    Tissue("canal", 0, ()),
    Tissue("cavity", 5, ()),
    Tissue("rim", 5, ()),
)
"""In the order of their codes, from 1. No ids have ``fat``, fluid of the spine (``canal``), and a lesion's two."""

CODES = MappingProxyType({tissue.name: code for code, tissue in enumerate(TISSUES, start=1)})
"""Name -> code in a volume of tissues."""

SEGMENTS = np.array([0, *(tissue.segment for tissue in TISSUES)], np.uint8)
"""Code -> what a segmentation calls it: 1 grey, 2 white, 3 fluid, 4 deep grey, 5 lesion, 0 not brain."""

BRAIN: NDArray[np.bool_] = SEGMENTS > 0
"""Code -> whether it belongs to the brain, the fluid around it included."""

# as scripts.cohort.tissue_values.TABLE: mean, spread between people, and within one person's tissue
_MORE = MappingProxyType(
    {
        "hippocampus": (
            (81, 0.9, 2.2),
            (0.55, 0.012, 0.035),
            (15, 0.8, 2.0),
            (12.5, 0.5, 0.8),
            (0.80, 0.03, 0.09),
        ),
        "cerebellar_white": (
            (70.5, 0.7, 1.6),
            (0.87, 0.03, 0.04),
            (22, 1.2, 2.0),
            (14.3, 0.5, 0.7),
            (1.43, 0.05, 0.12),
        ),
        "ventral_dc": (
            (72.5, 0.6, 1.8),
            (0.81, 0.022, 0.04),
            (23, 0.9, 2.5),
            (16, 0.6, 0.8),
            (1.26, 0.06, 0.10),
        ),
        "choroid": ((92, 2.0, 3.0), (0.40, 0.04, 0.05), (9, 1.5, 2.0), (4.5, 1.0, 0.8), (0.20, 0.05, 0.05)),
        "blood": ((80, 2.0, 3.0), (0.61, 0.03, 0.03), (35, 4.0, 4.0), (13, 1.5, 1.5), (0.15, 0.05, 0.04)),
        "mucosa": ((84, 3.0, 4.0), (0.75, 0.06, 0.05), (30, 4.0, 5.0), (12, 1.5, 1.5), (0.40, 0.08, 0.08)),
    }
)
# Name -> shares of drawn tissues: what is a mixture of others.
_MIXTURES = MappingProxyType(
    {
        "cerebellar_grey": {"grey": 0.85, "white": 0.15},
        "brainstem": {"white": 0.6, "thalamus": 0.4},
        "cord": {"white": 0.7, "thalamus": 0.3},
        "canal": {"csf": 1.0},
    }
)
# Sites differ by up to 3 % and people by up to 8 % in multi-centre maps (Weiskopf 2013, Frontiers in Neuroscience
# 7:95), more than the people of one scanner that the tables come from.
_WIDER = 1.5
_LEAST = 0.4  # of the mean
_PARCELS = ((1000, 3000, "grey"), (3000, 5000, "white"), (11000, 13000, "grey"), (13000, 15000, "white"))
_AROUND = MappingProxyType({**OUTER, "muscle": (70.0, 0.74, 32.0, 22.0, 0.9)})
_OUTER_BETWEEN, _OUTER_WITHIN = 0.07, 0.06  # of the mean of each map


def to_tissues(labels: NDArray[np.integer]) -> tuple[NDArray[np.uint8], int]:
    """Return the tissue code of every voxel of a label map, any shape, and how many voxels have an unknown label.

    Ids of parcellations are cortex (1000 to 2999, 11000 to 12999) and white matter (3000 to 4999, 13000 to
    14999). What is unknown is air.
    """
    table = np.zeros(15000, np.uint8)
    for low, high, name in (
        (1000, 3000, "grey"),
        (3000, 5000, "white"),
        (11000, 13000, "grey"),
        (13000, 15000, "white"),
    ):
        table[low:high] = CODES[name]
    for tissue in TISSUES:
        table[list(tissue.ids)] = CODES[tissue.name]
    inside = (labels >= 0) & (labels < table.size)
    tissues: NDArray[np.uint8] = table[np.where(inside, labels, 0)]
    return tissues, int(((tissues == AIR) & (labels != 0)).sum())


def draw_tissues(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw what one person's tissues measure.

    Returns:
        Means and standard deviations within the tissue, each (1 + len(TISSUES), len(MAPS)), by code and in the
        order of `MAPS`: PD [p.u.], R1, R2*, R2 [1/s], MTsat [p.u.]. Code 0 is 0 throughout.
    """
    drawn = draw_values(rng)
    for name, row in TABLE.items():
        mean = np.array(row)[:, 0]
        drawn[name] = np.maximum(mean + _WIDER * (drawn[name] - mean), _LEAST * mean).astype(np.float32)
    within = {name: np.array(row, np.float32)[:, 2] for name, row in TABLE.items()}
    for name, row in _MORE.items():
        mean, between, within[name] = np.array(row, np.float32).T
        drawn[name] = mean + _WIDER * between * rng.standard_normal(len(MAPS)).clip(-2.0, 2.0).astype(np.float32)
    for name, values in _AROUND.items():
        scale = np.exp(_OUTER_BETWEEN * rng.standard_normal(len(MAPS)).clip(-2.0, 2.0))
        drawn[name] = (np.array(values) * scale).astype(np.float32)
        within[name] = np.float32(_OUTER_WITHIN) * drawn[name]
    drawn["hyperintensity"] = drawn["white"] + np.array(HYPERINTENSITY, np.float32)
    within["hyperintensity"] = within["white"]
    for name, shares in _MIXTURES.items():
        drawn[name] = np.sum([np.float32(share) * drawn[other] for other, share in shares.items()], 0)
        within[name] = np.max([within[other] for other in shares], 0)
    drawn["vitreous"][0] = min(float(drawn["vitreous"][0]), 102.0)
    air = np.zeros((1, len(MAPS)), np.float32)
    means = np.stack([drawn[tissue.name] for tissue in TISSUES])
    spreads = np.stack([within[tissue.name] for tissue in TISSUES])
    return np.vstack([air, means]), np.vstack([air, spreads])
