"""Which recipe to take for which case, in a line each, from a grid's own numbers."""

from __future__ import annotations

from collections.abc import Iterator

from scripts.experiment.results.across import OTHERS, AcrossScores, across_scores, own_scores
from scripts.experiment.results.collect import Results
from scripts.experiment.tables.across import REFERENCE
from scripts.tasks import TASKS
from scripts.variants import variant_label

__all__ = ["advice"]


def advice(results: Results) -> list[tuple[str, str]]:
    """Return for each case, in words, which recipe was best and what it gains on a network trained from scratch.

    A case is a task, the modality with labels, the label fraction, and whether that modality or others are tested.
    Where no network was trained from scratch, nothing is said.
    """
    scores = [*across_scores(results), *own_scores(results)]
    return [line for own in scores if REFERENCE in set(own.by_seed["variant"]) for line in _lines(own)]


def _lines(own: AcrossScores) -> Iterator[tuple[str, str]]:
    task, metric = TASKS[own.task], own.metric
    means, differences = own.means(), own.differences(REFERENCE)
    interval = "over seeds" if own.is_repeated else "over subjects"
    for tested in (own.trained, OTHERS):
        rows = means[means["tested"] == tested].sort_values("mean", ascending=metric.better == "lower")
        if len(rows) < 2:
            continue
        best, scratch = rows.iloc[0], rows[rows["variant"] == REFERENCE].iloc[0]
        labels = f"{task.title}, {100 * own.fraction:g} % of the labels, {own.trained}"
        where = "tested on the same" if tested == own.trained else "tested on the other contrasts"
        unit, digits = metric.points or metric.unit, metric.digits
        words = f"{variant_label(best['variant'])} was best, {metric.label} {best['mean']:.{digits}f} {metric.unit}"
        if best["variant"] == REFERENCE:
            yield f"{labels}, {where}", f"{words}: of {len(rows)} recipes none beat it"
            continue
        row = differences[(differences["tested"] == tested) & (differences["variant"] == best["variant"])].iloc[0]
        form = f"+.{digits}f"
        span = f"95 % interval {interval} {row['low']:{form}} to {row['high']:{form}}"
        clear = "" if row["low"] > 0 or row["high"] < 0 else "; that may be chance"
        yield (
            f"{labels}, {where}",
            f"{words}; {row['difference']:{form}} {unit} ({span}) on {variant_label(REFERENCE)} with "
            f"{scratch['mean']:.{digits}f}{clear}",
        )
