"""Views: quantitative maps in, augmented simulated contrasts out, in batches on the device."""

from scripts.views.draw import ViewParameters, generator_for
from scripts.views.generator import ViewGenerator, region_size
from scripts.views.normalise import normalise, zscore_foreground
from scripts.views.ranges import ViewRanges

__all__ = [
    "ViewGenerator",
    "ViewParameters",
    "ViewRanges",
    "generator_for",
    "normalise",
    "region_size",
    "zscore_foreground",
]
