"""Words and order of what results list: modalities, sites, label fractions, cohorts, seeds, unfinished runs."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from scripts.experiment.results.collect import Results
from scripts.variants import VARIANTS

__all__ = [
    "MODALITIES",
    "SITES",
    "cohort_words",
    "fraction_words",
    "in_order",
    "is_training_site",
    "place_name",
    "seed_words",
    "site_label",
    "site_name",
    "unfinished_words",
]

MODALITIES = ("T1w", "T2w", "PDw", "FLAIR")
"""In the order of tables and figures."""

SITES = {
    "Guys": "GST (Guy's), training domain",
    "HH": "HH, unseen site",
    "IOP": "IOP, unseen site",
    "ARC": "ARC",
}
"""Site -> its place in the comparison, in the order of tables and figures."""

_PAPER_NAMES = {"Guys": "GST"}
_UNSEEN = ("HH", "IOP")
_COHORTS = {"embedded": "simulated cohort", "real": "real data"}


def in_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return ``names`` sorted as in ``known``, unknown ones after them by name."""
    places = {name: place for place, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (places.get(name, len(places)), name))


def is_training_site(site: str) -> bool:
    """Return whether a site is the one that training images come from."""
    return site not in _UNSEEN


def site_name(site: str) -> str:
    """Return a site as the paper names it."""
    return _PAPER_NAMES.get(site, site)


def site_label(site: str) -> str:
    """Return a site with its place in the comparison."""
    return SITES.get(site, site)


def place_name(site: str, modality: str) -> str:
    """Return site and modality as the paper writes them: ``GST [T1w]``."""
    return f"{site_name(site)} [{modality}]"


def fraction_words(fraction: float) -> str:
    """Return a label fraction in words."""
    return f"{100 * fraction:g}% labels"


def cohort_words(frame: pd.DataFrame) -> str:
    """Return which cohorts the rows are of, in words."""
    return " and ".join(_COHORTS.get(name, name) for name in sorted(frame["cohort"].unique()))


def seed_words(seeds: Iterable[int]) -> str:
    """Return how many seeds, in words."""
    count = len(set(seeds))
    return "one seed" if count == 1 else f"{count} seeds, averaged within a subject"


def unfinished_words(results: Results, task: str) -> str:
    """Return a sentence on the planned runs of a task that are not finished, empty where all are."""
    planned = results.planned
    if planned.empty:
        return ""
    own = planned[(planned["task"] == task) & planned["variant"].isin(VARIANTS)]
    lacking = len(own[~own["cell"].isin(results.runs["cell"])])
    return f" {lacking} of {len(own)} runs are not finished and missing here." if lacking else ""
