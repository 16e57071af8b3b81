"""The variants that are compared: their order, words, colours and markers, which stand nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["ENCODERLESS", "PRETRAINED", "VARIANTS", "Variant", "variant_label", "variant_order"]


@dataclass(frozen=True)
class Variant:
    """A way to come by an encoder.

    Attributes:
        label: for people.
        colour: in figures.
        marker: in figures, as matplotlib names it.
        encoder: option ``encoder`` of the downstream bundles.
        views: what its pretraining pairs, in words; empty where there is none.
    """

    label: str
    colour: str
    marker: str
    encoder: str = "pretrained"
    views: str = ""


# Okabe and Ito's colours, which people with any common colour blindness tell apart
VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "base": Variant("Base", "#0072B2", "o", views="always MPRAGE"),
        "seqaug": Variant("SeqAug", "#E69F00", "s", views="one drawn sequence for both views"),
        "seqinv": Variant("SeqInv", "#009E73", "D", views="another sequence for each view"),
        "random": Variant("Random", "#8C8C8C", "v", encoder="random"),
        "scratch": Variant("Scratch", "#000000", "^", encoder="none"),
    }
)
"""Name -> the paper's three and the two that bracket them, in the order of tables and figures; those of the study have
other names."""

PRETRAINED = tuple(name for name, variant in VARIANTS.items() if variant.views)
"""The paper's three, which are modes of the views too."""

ENCODERLESS: Mapping[str, str] = MappingProxyType(
    {name: variant.encoder for name, variant in VARIANTS.items() if not variant.views}
)
"""Variants without a pretraining -> the bundles' option ``encoder``."""

_OTHERS = {"maps": "Maps", "simulated": "Simulated"}
_CHANGES = {
    "no_l1": "no L1",
    "4_views": "4 views",
    "vicreg": "VICReg",
    "levels": "pooled levels",
    "maps": "map regression",
    "dense": "voxel contrast",
    "maps_dense": "maps and voxels",
}


def variant_order(names: Iterable[str]) -> list[str]:
    """Return variants sorted: the paper's first, then random and scratch, then others by name."""
    places = {name: place for place, name in enumerate(VARIANTS)}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def variant_label(name: str) -> str:
    """Return a variant as it is written for people: ``seqinv-no_l1`` is "SeqInv, no L1"."""
    base, _, change = name.partition("-")
    label = VARIANTS[base].label if base in VARIANTS else _OTHERS.get(base, base)
    return f"{label}, {_CHANGES.get(change, change.replace('_', ' '))}" if change else label
