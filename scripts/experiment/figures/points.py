"""Scores of the variants side by side: every subject, the mean and its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from scripts.experiment.figures.drawing import Drawing, error_bars
from scripts.experiment.figures.palette import MODALITY_COLOURS, variant_colours, variant_markers
from scripts.experiment.results.across import across_scores
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError, StudiedScore, means, studied_scores, subject_values
from scripts.experiment.results.training_scatter import training_interval, training_scatter
from scripts.experiment.results.wording import cohort_words, in_order, seed_words, unfinished_words
from scripts.metrics.bootstrap import bootstrap_interval
from scripts.tasks import TASKS
from scripts.variants import VARIANTS, variant_label, variant_order

__all__ = ["Panel", "across_points", "draw_points", "lesion_points", "study_points"]

_WIDTH = 8.5


@dataclass(frozen=True)
class Panel:
    """What is drawn side by side.

    Attributes:
        label: of the vertical axis.
        title: of the panel.
        values: ``variant``, ``subject`` and ``value``, a row for each pale dot.
        interval: of the mean of a variant's values, (low, high).
    """

    label: str
    title: str
    values: pd.DataFrame
    interval: Callable[[np.ndarray], tuple[float, float]] = bootstrap_interval


def lesion_points(results: Results) -> Drawing:
    """Return DSC and HD95 of lesions per modality, of the paper's variants at the largest label fraction.

    Raises:
        NothingFoundError: no run of arc_lesion is finished.
    """
    panels: list[Panel] = []
    task = TASKS["arc_lesion"]
    for metric in task.metrics:
        values = subject_values(results.scores, task.name, metric)
        main = values[values["variant"].isin(VARIANTS)]
        values = main if len(main) else values
        fraction = values["fraction"].max()
        values = values[values["fraction"] == fraction]
        for modality in in_order(values["modality"], MODALITY_COLOURS):
            own = values[values["modality"] == modality]
            panels.append(Panel(f"{metric.axis}, {metric.better} is better", modality, own))
    rows = results.scores[results.scores["task"] == task.name]
    dsc = [panel for panel in panels if panel.label.startswith(task.headline.label)]
    counts = ", ".join(f"{panel.title} {panel.values['subject'].nunique()}" for panel in dsc)
    caption = (
        f"Lesions segmented with {100 * fraction:g} % of the labels. Pale: subjects (averaged over seeds); dark: their "
        f"mean with its 95 % bootstrap interval. In HD95 a prediction "
        f"without any lesion counts as the diagonal of the image. Test subjects: {counts}; {cohort_words(rows)}, "
        f"{seed_words(rows['seed'])}.{unfinished_words(results, task.name)}"
    )
    return Drawing(task.topic, caption, draw_points(panels, len(dsc)))


def study_points(results: Results) -> Drawing:
    """Return the scores that the variants of the study share with the paper's, a panel per task and modality.

    Raises:
        NothingFoundError: no run of a study variant is finished.
    """
    scores = list(studied_scores(results))
    panels = [_studied_panel(score) for score in scores]
    if not panels:
        raise NothingFoundError("no variant of the study has downstream scores")
    rows = results.scores[results.scores["task"].isin([s.task for s in scores])]
    if any(score.repeated for score in scores):
        dots = (
            "Pale: seeds, each with a pretraining and a training of its own (means over the test subjects of all "
            "sites); dark: their mean with its 95 % t interval, which tells the scatter of trainings, pooled over the "
            "variants"
        )
    else:
        dots = (
            "Pale: test subjects of all sites (averaged over classes); dark: their mean with its 95 % bootstrap "
            "interval, which tells the spread of subjects, not that of pretraining again"
        )
    seeds = rows["seed"].nunique()
    caption = (
        f"Variants of the pretraining, each with a decoder of its own on the frozen encoder. {dots}; "
        f"{cohort_words(rows)}, {'one seed' if seeds == 1 else f'{seeds} seeds'}."
    )
    return Drawing("Study: downstream scores", caption, draw_points(panels, min(len(panels), 3)))


def across_points(results: Results) -> Drawing:
    """Return the scores on every modality of networks trained on one, a row per task and modality with labels.

    Raises:
        NothingFoundError: no network was tested on another modality.
    """
    scores = list(across_scores(results))
    if not scores:
        raise NothingFoundError("no network was tested on another modality than its own")
    columns = max(len(own.tested) for own in scores)
    panels: list[Panel | None] = []
    for own in scores:
        label = f"{own.metric.axis}, labels on {own.trained}, {100 * own.fraction:g} %"
        row = [_panel(score, label, f"tested on {tested}") for tested, score in own.on.items()]
        panels += [*row, *[None] * (columns - len(row))]
    repeated = any(own.is_repeated for own in scores)
    dots = "seeds, each a mean over the test subjects" if repeated else "test subjects"
    over = "t interval over the seeds, their scatter pooled" if repeated else "bootstrap interval over the subjects"
    caption = (
        f"Networks with labels on one modality, tested on every one. Pale: {dots}; dark: their mean, its 95 % {over}. "
        f"{cohort_words(results.across).capitalize()}, {seed_words(results.across['seed'])}."
    )
    return Drawing("Across contrasts", caption, draw_points(panels, columns))


def _studied_panel(score: StudiedScore) -> Panel:
    title = f"{TASKS[score.task].short}, {score.modality}, {100 * score.fraction:g} % of labels"
    return _panel(score, score.metric.axis, title)


def _panel(score: StudiedScore, label: str, title: str) -> Panel:
    """Return subjects and their mean, or trainings and theirs where they were repeated."""
    if not score.repeated:
        return Panel(label, title, score.values)
    interval = partial(training_interval, scatter=training_scatter(score.by_training))
    return Panel(label, title, score.by_training.rename(columns={"seed": "subject"}), interval)


def draw_points(panels: Sequence[Panel | None], columns: int) -> Any:
    """Return a figure: panel after panel, row by row, with a column of subjects and their mean per variant.

    Args:
        panels: those of one row with the same label share their axis; None leaves a place empty.
        columns: panels in a row.
    """
    from matplotlib.figure import Figure

    variants = variant_order({name for panel in panels if panel for name in panel.values["variant"]})
    crowded = len(variants) > len(VARIANTS) or columns > 3
    n_rows = -(-len(panels) // columns)
    figure = Figure(figsize=(_WIDTH, n_rows * (3.6 if crowded else 2.7)), layout="constrained")
    axes = figure.subplots(n_rows, columns, squeeze=False)
    tilted = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for place, (axis, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        before = panels[place - 1] if place % columns else None
        if panel is None:
            axis.set_axis_off()
            continue
        beside = before is not None and panel.label == before.label
        if beside:
            axis.sharey(axes.flat[place - 1])
        _draw_panel(axis, panel, variants)
        axis.set_title(panel.title, fontsize=9)
        axis.set_xticks(range(len(variants)), [variant_label(name) for name in variants], **tilted)
        axis.tick_params(labelsize=7.5)
        axis.tick_params(labelleft=not beside)
        axis.set_ylabel("" if beside else panel.label, fontsize=9)
    return figure


def _draw_panel(axis: Any, panel: Panel, variants: list[str]) -> None:
    colours, markers = variant_colours(variants), variant_markers(variants)
    values = panel.values
    table = means(values, ["variant"], panel.interval).set_index("variant")
    for place, variant in enumerate(variants):
        if variant not in table.index:
            axis.annotate("–", (place, 0.5), xycoords=("data", "axes fraction"), ha="center", color="0.5")  # noqa: RUF001
            continue
        own = values[values["variant"] == variant].sort_values("subject")["value"].to_numpy()
        aside = np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else np.zeros(1)
        axis.plot(place + aside, own, ".", color=colours[variant], alpha=0.45, markersize=5, markeredgewidth=0)
        axis.errorbar(
            [place],
            table.loc[[variant], "mean"],
            yerr=error_bars(table.loc[[variant]]),
            color=colours[variant],
            marker=markers[variant],
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=1.8,
            capsize=3,
            label=variant_label(variant),
        )
    axis.set_xlim(-0.6, len(variants) - 0.4)
    axis.grid(axis="y", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
