"""Colours and markers of variants, modalities and sites: the same in every figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scripts.experiment.results.wording import in_order
from scripts.variants import VARIANTS, variant_order

__all__ = ["MODALITY_COLOURS", "SITE_COLOURS", "colours_of", "variant_colours", "variant_markers"]

# Tol's colours, for what has none of its own
_OTHERS = ("#CC79A7", "#D55E00", "#56B4E9", "#882255", "#999933", "#332288", "#DDCC77", "#661100", "#AA4499", "#6699CC")
_OTHER_MARKERS = "PXh*<>pd"

MODALITY_COLOURS = {"T1w": "#4477AA", "T2w": "#EE6677", "PDw": "#228833", "FLAIR": "#CCBB44"}
SITE_COLOURS = {"Guys": "#66CCEE", "HH": "#AA3377", "IOP": "#1B1B1B", "ARC": "#B8860B"}


def variant_colours(variants: Iterable[str]) -> dict[str, str]:
    """Return a colour for each variant, in their order; those of the study by their place among all others."""
    known = {name: variant.colour for name, variant in VARIANTS.items()}
    return _each(variant_order(set(variants)), known, _OTHERS)


def variant_markers(variants: Iterable[str]) -> dict[str, str]:
    """Return a marker for each variant, so that colour is never all that tells them apart."""
    known = {name: variant.marker for name, variant in VARIANTS.items()}
    return _each(variant_order(set(variants)), known, _OTHER_MARKERS)


def colours_of(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return a colour for each name: the known one, or one of the others by place."""
    return _each(in_order(names, known), known, _OTHERS)


def _each(ordered: list[str], known: Mapping[str, str], others: str | tuple[str, ...]) -> dict[str, str]:
    unknown = [name for name in ordered if name not in known]
    return {name: known.get(name) or others[unknown.index(name) % len(others)] for name in ordered}
