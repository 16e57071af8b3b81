"""How much the encoders' features depend on the sequence, and what they say of the tissue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.figures.drawing import Drawing
from scripts.experiment.figures.palette import variant_colours, variant_markers
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.experiment.results.wording import cohort_words
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["draw_invariance", "invariance_dots", "study_invariance"]

_WIDTH = 8.5
_COLUMNS = 4
_MEASURES = {
    "retrieval_top1": "retrieval of the anatomy\nin another sequence, top 1",
    "alignment": "distance of one anatomy\nin two sequences",
    "uniformity": "uniformity (log potential)\nof the features",
    "sequence_probe": "sequence told by\na linear probe",
    "tissue_probe": "tissue told by\na linear probe",
    "tissue_r2": "tissue fractions, R²\nof a linear probe",
    "tissue_probe_across_sequences": "tissue told in a sequence\nthe probe has not seen",
    "tissue_r2_across_sequences": "tissue fractions, R² in\na sequence not seen",
}
_LEVELS = {"pooled": "Pooled features: one vector per anatomy", "dense": "Dense features: one vector per cell"}
_READING = (
    "Dots: measured on held-out subjects, with 95 % bootstrap intervals over subjects (features and probes held fixed)."
    " Black bars: what features without information score, for that encoder. Arrows: which side is better. A small"
    " distance alone is no merit, since collapsed features have it too: read it against its black bar."
)


def invariance_dots(results: Results) -> Drawing:
    """Return every measure of invariance of the paper's variants and of the untrained encoder.

    Raises:
        NothingFoundError: no encoder was measured.
    """
    table = _measured(results)
    main = table[table["variant"].isin(VARIANTS)]
    table = main if len(main) else table
    return Drawing("Invariance to the sequence", _caption(table), draw_invariance(table))


def study_invariance(results: Results) -> Drawing:
    """Return the same of all variants, those of the study beside the paper's.

    Raises:
        NothingFoundError: no encoder of the study was measured.
    """
    table = _measured(results)
    if table["variant"].isin(VARIANTS).all():
        raise NothingFoundError("no encoder of the study was measured")
    return Drawing("Study: invariance to the sequence", _caption(table), draw_invariance(table))


def draw_invariance(table: pd.DataFrame) -> Any:
    """Return a figure: a block per level of features, a panel per measure, a row per variant with its interval.

    Args:
        table: rows of `Results.invariance`; of several seeds each has a dot.
    """
    from matplotlib.figure import Figure

    variants = variant_order(table["variant"].unique())
    levels = [name for name in _LEVELS if name in set(table["level"])]
    found = set(table["metric"])
    measures = [*(name for name in _MEASURES if name in found), *sorted(found - set(_MEASURES))]
    n_rows = -(-len(measures) // _COLUMNS)
    height = 0.95 + 0.17 * max(len(variants), 4)
    figure = Figure(figsize=(_WIDTH, len(levels) * (0.35 + n_rows * height)), layout="constrained")
    blocks = figure.subfigures(len(levels), 1, squeeze=False)[:, 0]
    for block, level in zip(blocks, levels, strict=True):
        own = table[table["level"] == level]
        block.suptitle(f"{_LEVELS[level]} ({_counts(own)})", fontsize=10, weight="bold")
        axes = block.subplots(n_rows, _COLUMNS, squeeze=False, sharey=True).flat
        for place, axis in enumerate(axes):
            if place >= len(measures):
                axis.set_axis_off()
                continue
            _draw_panel(axis, own[own["metric"] == measures[place]], measures[place], variants)
    return figure


def _draw_panel(axis: Any, table: pd.DataFrame, measure: str, variants: list[str]) -> None:
    colours, markers = variant_colours(variants), variant_markers(variants)
    for place, variant in enumerate(variants):
        own = table[table["variant"] == variant].sort_values("seed")
        aside = 0.3 * (np.arange(len(own)) - (len(own) - 1) / 2) / max(len(own), 1)
        y = place + aside
        bars = np.stack([own["value"] - own["low"], own["high"] - own["value"]])
        # a percentile interval need not hold the estimate
        bars = np.where(np.isnan(bars), np.nan, np.maximum(bars, 0))
        axis.plot(own["chance"], y, "|", color="black", markersize=10, markeredgewidth=1.2, label="_chance")
        axis.errorbar(
            own["value"],
            y,
            xerr=bars,
            fmt=markers[variant],
            color=colours[variant],
            markersize=5,
            elinewidth=1.4,
            capsize=2,
            label=variant_label(variant),
        )
    if measure == "alignment" and _spans_decades(table[["value", "low", "chance"]].to_numpy()):
        axis.set_xscale("log")
    else:
        axis.locator_params(axis="x", nbins=4)
    better = set(table["better"])
    arrow = {"higher": "better →", "lower": "← better"}[better.pop()] if len(better) == 1 else ""
    axis.set_title(_MEASURES.get(measure, measure.replace("_", " ")), fontsize=7.5)
    axis.set_xlabel(arrow, fontsize=7, loc="right" if "→" in arrow else "left", color="0.3")
    axis.set_yticks(range(len(variants)), [variant_label(name) for name in variants])
    axis.set_ylim(len(variants) - 0.5, -0.5)
    axis.tick_params(labelsize=7)
    axis.grid(axis="x", color="0.92", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _spans_decades(numbers: np.ndarray) -> bool:
    found = numbers[np.isfinite(numbers)]
    return len(found) > 0 and bool(found.min() > 0 and found.max() > 30 * found.min())


def _measured(results: Results) -> pd.DataFrame:
    if results.invariance.empty:
        raise NothingFoundError("no encoder was measured: no pretraining is finished")
    return results.invariance


def _counts(table: pd.DataFrame) -> str:
    counts = sorted(set(table["n"].astype(int)))
    return f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"


def _caption(table: pd.DataFrame) -> str:
    seeds = table["seed"].nunique()
    repeats = "one seed" if seeds == 1 else f"a dot for each of {seeds} seeds"
    return f"{_READING} {cohort_words(table).capitalize()}, {repeats}."
