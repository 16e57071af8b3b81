"""Scores against the share of labels that the decoder was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.figures.drawing import Drawing, error_bars
from scripts.experiment.figures.palette import MODALITY_COLOURS, SITE_COLOURS, variant_colours, variant_markers
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import means, subject_values
from scripts.experiment.results.wording import cohort_words, in_order, seed_words, site_label, unfinished_words
from scripts.tasks import TASKS
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["draw_curves", "dsc_curves", "psnr_curves"]

_WIDTH = 8.5  # inches; 1105 pixels
_SPREAD = 1.18


def dsc_curves(results: Results) -> Drawing:
    """Return DSC of the tissues against label fraction.

    Raises:
        NothingFoundError: no run of ixi_seg is finished.
    """
    task = TASKS["ixi_seg"]
    values = _main(subject_values(results.scores, task.name, task.headline))
    *names, last = task.classes.values()
    caption = f"Dice's coefficient of {', '.join(names)} and {last}, averaged within a subject."
    return Drawing(
        f"{task.topic} against label fraction",
        f"{caption} {_subjects_words(results, values, task.name)}",
        draw_curves(values, task.headline.axis),
    )


def psnr_curves(results: Results) -> Drawing:
    """Return PSNR of denoised images against label fraction.

    Raises:
        NothingFoundError: no run of ixi_denoise is finished.
    """
    task = TASKS["ixi_denoise"]
    values = _main(subject_values(results.scores, task.name, task.headline))
    noisy = results.scores[results.scores["metric"] == "PSNR_noisy"]
    reference = float(noisy["value"].mean()) if len(noisy) else None
    caption = "Peak signal-to-noise ratio as in the paper: L = 1, images of deviation 1, all voxels."
    if reference is not None:
        caption += f" Dashed: the noisy image as it came, {reference:.2f} dB."
    return Drawing(
        f"{task.topic} against label fraction",
        f"{caption} {_subjects_words(results, values, task.name)}",
        draw_curves(values, task.headline.axis, reference=reference),
    )


def draw_curves(values: pd.DataFrame, label: str, *, reference: float | None = None) -> Any:
    """Return a figure: a column per modality, a row per site, a line per variant with 95 % intervals.

    Args:
        values: as `scripts.experiment.results.scores.subject_values` returns them.
        label: of the vertical axes.
        reference: value of a dashed line, None draws none.
    """
    from matplotlib.figure import Figure

    table = means(values, ["site", "modality", "variant", "fraction"])
    sites, modalities = in_order(table["site"], SITE_COLOURS), in_order(table["modality"], MODALITY_COLOURS)
    variants = variant_order(table["variant"].unique())
    size = (min(_WIDTH, 1.5 + 3 * len(modalities)), 1.0 + 2.15 * len(sites))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(sites), len(modalities), squeeze=False, sharex=True, sharey=True)
    for row, site in zip(axes, sites, strict=True):
        for axis, modality in zip(row, modalities, strict=True):
            own = table[(table["site"] == site) & (table["modality"] == modality)]
            _draw_panel(axis, own, variants)
            if reference is not None:
                axis.axhline(reference, color="0.4", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
            _set_ticks(axis, sorted(table["fraction"].unique()))
            if site == sites[0]:
                axis.set_title(modality, fontsize=10)
            if site == sites[-1]:
                axis.set_xlabel("labelled training images", fontsize=8)
        row[0].set_ylabel(f"{site_label(site)}\n{label}", fontsize=8)
    handles = {text: h for axis in axes.flat for h, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    labels = [variant_label(name) for name in variants]
    figure.legend(
        [handles[text] for text in labels],
        labels,
        loc="outside upper center",
        ncols=len(labels),
        frameon=False,
        fontsize=9,
    )
    return figure


def _draw_panel(axis: Any, table: pd.DataFrame, variants: list[str]) -> None:
    colours, markers = variant_colours(variants), variant_markers(variants)
    if table.empty:
        axis.text(0.5, 0.5, "not run", transform=axis.transAxes, ha="center", va="center", fontsize=9, color="0.5")
    for place, variant in enumerate(variants):
        own = table[table["variant"] == variant].sort_values("fraction")
        if own.empty:
            continue
        # side by side, or the intervals would hide one another
        x = own["fraction"].to_numpy() * _SPREAD ** (place - (len(variants) - 1) / 2)
        axis.errorbar(
            x,
            own["mean"].to_numpy(),
            yerr=error_bars(own),
            color=colours[variant],
            marker=markers[variant],
            markersize=4,
            linewidth=1.3,
            elinewidth=1,
            capsize=2,
            label=variant_label(variant),
        )
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _set_ticks(axis: Any, fractions: list[float]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(fractions, [f"{100 * fraction:g} %" for fraction in fractions])
    axis.minorticks_off()
    axis.set_xlim(fractions[0] / 2, fractions[-1] * 2)


def _main(values: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the paper's variants; those of the study have a figure of their own."""
    own = values[values["variant"].isin(VARIANTS)]
    return own if len(own) else values


def _subjects_words(results: Results, values: pd.DataFrame, task: str) -> str:
    rows = results.scores[results.scores["task"] == task]
    counts = values.groupby("site")["subject"].nunique()
    counted = ", ".join(f"{site} {counts[site]}" for site in in_order(counts.index, SITE_COLOURS))
    return (
        f"Mean over test subjects ({counted}) with 95 % bootstrap intervals over subjects; {cohort_words(rows)}, "
        f"{seed_words(np.unique(rows['seed']))}. Points are shifted sideways so that intervals do not hide one another."
        f"{unfinished_words(results, task)}"
    )
