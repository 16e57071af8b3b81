"""Colours, markers, names and order of variants, modalities and sites: the same in every figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scripts.experiment.results.collect import VARIANTS, variant_order

__all__ = [
    "MODALITY_COLOURS",
    "SITE_COLOURS",
    "colours_of",
    "in_order",
    "site_label",
    "variant_colours",
    "variant_label",
    "variant_markers",
]

# Okabe and Ito's colours, which people with any common colour blindness tell apart, then Tol's for the study.
_MAIN = {"base": "#0072B2", "seqaug": "#E69F00", "seqinv": "#009E73", "random": "#8C8C8C", "scratch": "#000000"}
_OTHERS = ("#CC79A7", "#D55E00", "#56B4E9", "#882255", "#999933", "#332288", "#DDCC77", "#661100", "#AA4499", "#6699CC")
_MARKERS = "osDv^PXh*<>pd"

MODALITY_COLOURS = {"T1w": "#4477AA", "T2w": "#EE6677", "PDw": "#228833", "FLAIR": "#CCBB44"}
"""Colour of a modality, in the order of the figures."""

SITE_COLOURS = {"Guys": "#66CCEE", "HH": "#AA3377", "IOP": "#1B1B1B", "ARC": "#B8860B"}
"""Colour of a site, the training domain first."""

_LABELS = {"base": "Base", "seqaug": "SeqAug", "seqinv": "SeqInv", "random": "Random", "scratch": "Scratch"}
_CHANGES = {"no_l1": "no L1", "4_views": "4 views", "vicreg": "VICReg", "levels": "pooled levels"}
_SITES = {"Guys": "GST (Guy's), training domain", "HH": "HH, unseen site", "IOP": "IOP, unseen site"}


def variant_colours(variants: Iterable[str]) -> dict[str, str]:
    """Return a colour for each variant, in their order; those of the study by their place among all others."""
    names = variant_order(set(variants))
    others = [name for name in names if name not in _MAIN]
    return {name: _MAIN.get(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in names}


def variant_markers(variants: Iterable[str]) -> dict[str, str]:
    """Return a marker for each variant, so that colour is never all that tells them apart."""
    names = variant_order({*VARIANTS, *variants})
    return {name: _MARKERS[place % len(_MARKERS)] for place, name in enumerate(names)}


def variant_label(name: str) -> str:
    """Return a variant as figures write it: ``seqinv-no_l1`` is "SeqInv, no L1"."""
    base, _, change = name.partition("-")
    label = _LABELS.get(base, base)
    return f"{label}, {_CHANGES.get(change, change.replace('_', ' '))}" if change else label


def site_label(site: str) -> str:
    """Return a site with its place in the comparison."""
    return _SITES.get(site, site)


def in_order(names: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """Return ``names`` sorted as in ``known``, unknown ones after them by name."""
    places = {name: place for place, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def colours_of(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a colour for each name: the known one, or one of the others by place."""
    ordered = in_order(names, known)
    others = [name for name in ordered if name not in known]
    return {name: known.get(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in ordered}
