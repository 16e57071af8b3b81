from __future__ import annotations

import logging
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.experiment.figures.all_figures import write_figures
from scripts.experiment.figures.curves import draw_curves, dsc_curves, psnr_curves
from scripts.experiment.figures.drawing import error_bars
from scripts.experiment.figures.palette import MODALITY_COLOURS
from scripts.experiment.figures.points import across_points, lesion_points, study_points
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError, means, subject_values
from scripts.experiment.results.wording import unfinished_words
from scripts.metrics.bootstrap import bootstrap_interval
from scripts.tasks import TASKS
from scripts.variants import variant_label

STUDY = tuple(f"seqinv-{change}" for change in ("no_l1", "4_views", "vicreg", "levels", "physical"))

DSC = TASKS["ixi_seg"].headline


def naive_values(scores: pd.DataFrame, **cell: object) -> dict[str, float]:
    """Mean over classes within a seed, then over seeds, of each subject: in plain loops."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in scores.to_dict("records"):
        if all(row[name] == value for name, value in cell.items()):
            found.setdefault(row["subject"], {}).setdefault(row["seed"], []).append(row["value"])
    return {
        subject: sum(sum(values) / len(values) for values in seeds.values()) / len(seeds)
        for subject, seeds in found.items()
    }


def with_study(results: Results) -> Results:
    scores = results.scores
    like = scores[(scores["variant"] == "seqinv") & (scores["fraction"] == 0.01) & (scores["modality"] == "T1w")]
    extra = [like.assign(variant=name, value=like["value"] + 0.001 * n) for n, name in enumerate(STUDY)]
    return replace(results, scores=pd.concat([scores, *extra], ignore_index=True))


def empty(results: Results) -> Results:
    nothing = pd.DataFrame()
    tables = ("runs", "scores", "invariance", "cases", "features", "planned", "across")
    return replace(results, **dict.fromkeys(tables, nothing), facts={})


def bars(axis: object, label: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y and the ends of the vertical intervals of the errorbar with a label."""
    container = next(c for c in axis.containers if c.get_label() == label)
    line, _, (segments,) = container.lines
    ends = np.array([segment[:, 1] for segment in segments.get_segments()])
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), ends[:, 0], ends[:, 1]


def test_subject_is_averaged_over_classes_and_then_seeds(results: Results) -> None:
    first = results.scores[(results.scores["task"] == "ixi_seg") & (results.scores["variant"] == "base")]
    # a second seed of which one class is missing: the order of the averages matters
    second = first[first["class"] != "CSF"].assign(seed=1, value=first["value"] / 2)
    scores = pd.concat([first, second], ignore_index=True)
    values = subject_values(scores, "ixi_seg", DSC)
    cell = {"modality": "T2w", "fraction": 0.01, "site": "HH"}
    own = values[(values[list(cell)] == pd.Series(cell)).all(axis=1)]
    expected = naive_values(scores, **cell, metric="DSC")
    assert len(expected) == 8
    assert set(own["seeds"]) == {2}
    assert dict(zip(own["subject"], own["value"], strict=True)) == pytest.approx(
        {subject: 100 * value for subject, value in expected.items()}
    )


def test_means_equal_those_of_a_loop_and_follow_the_order_of_variants(results: Results) -> None:
    values = subject_values(results.scores, "ixi_seg", DSC)
    table = means(values, ["site", "variant"])
    assert list(table[table["site"] == "HH"]["variant"]) == ["base", "seqaug", "seqinv", "random"]
    row = table[(table["site"] == "HH") & (table["variant"] == "seqaug")].iloc[0]
    own = values[(values["site"] == "HH") & (values["variant"] == "seqaug")]["value"]
    assert row["mean"] == pytest.approx(own.mean())
    assert (row["low"], row["high"]) == bootstrap_interval(own.to_numpy())
    assert row["n"] == len(own)


def test_no_interval_for_one_subject_and_none_below_zero_for_equal_ones() -> None:
    one = pd.DataFrame({"variant": ["base"], "value": [0.5]})
    equal = pd.DataFrame({"variant": ["base"] * 7, "value": [0.1] * 7})
    assert np.isnan(error_bars(means(one, ["variant"]))).all()
    lengths = error_bars(means(equal, ["variant"]))
    assert (lengths >= 0).all()
    assert lengths == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("draw", "task", "metric", "scale"),
    [(dsc_curves, "ixi_seg", "DSC", 100), (psnr_curves, "ixi_denoise", "PSNR", 1)],
    ids=["DSC", "PSNR"],
)
def test_curves_show_what_the_scores_say(results: Results, draw, task: str, metric: str, scale: float) -> None:
    axes = np.reshape(draw(results).figure.axes, (3, 3))
    axis = axes[1, 2]
    assert (axes[0, 2].get_title(), axis.get_xscale()) == ("PDw", "log")
    assert "HH" in axes[1, 0].get_ylabel()
    x, y, low, high = bars(axis, "SeqInv")
    for place, fraction in enumerate((0.01, 1.0)):
        cell = {"task": task, "variant": "seqinv", "modality": "PDw", "site": "HH", "fraction": fraction}
        own = [scale * value for value in naive_values(results.scores, **cell, metric=metric).values()]
        assert x[place] == pytest.approx(fraction, rel=0.5)
        assert y[place] == pytest.approx(np.mean(own))
        assert (low[place], high[place]) == pytest.approx(bootstrap_interval(own))


def test_curves_shift_variants_so_that_no_two_points_share_a_place(results: Results) -> None:
    axis = dsc_curves(results).figure.axes[0]
    places = [bars(axis, variant_label(name))[0][0] for name in ("base", "seqaug", "seqinv", "random")]
    assert places == sorted(set(places))
    assert np.exp(np.mean(np.log(places))) == pytest.approx(0.01)  # about the fraction, on its log axis


def test_denoising_curves_have_a_line_at_the_noisy_image(results: Results) -> None:
    drawing = psnr_curves(results)
    assert "13.98 dB" in drawing.caption
    for axis in drawing.figure.axes:
        dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
        assert [line.get_ydata()[0] for line in dashed] == pytest.approx([13.98])


def test_curves_say_which_cells_were_not_run(results: Results) -> None:
    scores = results.scores[(results.scores["site"] != "HH") | (results.scores["modality"] != "T2w")]
    figure = draw_curves(subject_values(scores, "ixi_seg", DSC), "DSC")
    told = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert told == [["not run"] if place == 4 else [] for place in range(9)]


def test_curves_of_one_fraction_one_variant_one_subject(results: Results) -> None:
    scores = results.scores
    one = scores[
        (scores["variant"] == "random") & (scores["fraction"] == 1.0) & scores["subject"].str.startswith("IXI000")
    ]
    axis = dsc_curves(replace(results, scores=one)).figure.axes[0]
    container = axis.containers[0]
    assert container.lines[0].get_xdata() == pytest.approx([1.0])


def test_captions_tell_cohort_subjects_and_missing_runs(results: Results) -> None:
    caption = dsc_curves(results).caption
    assert "simulated cohort, one seed" in caption
    assert "Guys 10, HH 8, IOP 8" in caption
    assert "not finished" not in caption
    cells = results.runs[(results.runs["task"] == "ixi_seg") & (results.runs["modality"] == "T1w")]["cell"]
    partial = replace(results, runs=results.runs[~results.runs["cell"].isin(cells)])
    assert unfinished_words(partial, "ixi_seg") == " 8 of 24 runs are not finished and missing here."


def test_lesions_show_every_subject_and_their_mean(results: Results) -> None:
    figure = lesion_points(results).figure
    assert [axis.get_title() for axis in figure.axes] == ["T1w", "T2w", "FLAIR"] * 2
    axis = figure.axes[4]
    cell = {"task": "arc_lesion", "variant": "base", "modality": "T2w"}
    own = naive_values(results.scores, **cell, metric="HD95")
    dots = axis.lines[0]
    assert list(dots.get_ydata()) == pytest.approx([own[name] for name in sorted(own)])
    x, y, low, high = bars(axis, "Base")
    assert (x[0], y[0]) == (0, pytest.approx(np.mean(list(own.values()))))
    assert (low[0], high[0]) == pytest.approx(bootstrap_interval([own[name] for name in sorted(own)]))


def test_every_lesion_lies_inside_its_axes_and_a_row_has_one_scale(results: Results) -> None:
    axes = lesion_points(results).figure.axes
    assert len({axis.get_ylim() for axis in axes[:3]}) == len({axis.get_ylim() for axis in axes[3:]}) == 1
    assert axes[0].get_ylim() != axes[3].get_ylim()
    for axis in axes:
        low, high = axis.get_ylim()
        assert all(low < value < high for line in axis.lines for value in line.get_ydata())


def test_study_has_a_panel_for_each_task_and_a_dash_for_a_run_that_lacks(results: Results) -> None:
    with pytest.raises(NothingFoundError, match="no variant of the study"):
        study_points(results)
    study = with_study(results)
    lacking = (study.scores["variant"] == STUDY[0]) & (study.scores["task"] == "ixi_denoise")
    figure = study_points(replace(study, scores=study.scores[~lacking])).figure
    assert [axis.get_title() for axis in figure.axes] == [
        "tissue, T1w, 1 % of labels",
        "denoising, T1w, 1 % of labels",
    ]
    assert [len(axis.containers) for axis in figure.axes] == [9, 8]
    assert [text.get_text() for text in figure.axes[1].texts] == ["\N{EN DASH}"]
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert labels[:4] == ["Base", "SeqAug", "SeqInv", "Random"]
    assert set(labels[4:]) == {variant_label(name) for name in STUDY}


def test_a_panel_for_every_tested_modality_and_the_mean_of_the_others(results: Results) -> None:
    drawn = across_points(results)
    axes = drawn.figure.axes
    assert [axis.get_title() for axis in axes] == [f"tested on {name}" for name in (*MODALITY_COLOURS, "others")]
    assert axes[0].get_ylabel() == "DSC [%], labels on T1w, 5 %"
    own = results.across[(results.across["variant"] == "maps-tuned") & (results.across["tested"] == "T2w")]
    _, mean, low, high = bars(axes[1], "Maps, tuned")
    assert mean[0] == pytest.approx(100 * own.groupby("subject")["value"].mean().mean())
    assert low[0] < mean[0] < high[0]


def test_writes_pngs_in_reading_order(results: Results, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        figures = write_figures(with_study(results), tmp_path / "out")
    assert [figure.name for figure in figures] == [
        "across",
        "dsc_curves",
        "lesion_points",
        "psnr_curves",
        "cases_ixi_seg",
        "cases_arc_lesion",
        "cases_ixi_denoise",
        "invariance",
        "tsne",
        "study_invariance",
        "study_points",
    ]
    assert sorted(caplog.messages) == [
        "figure contrasts is left out: the grid's quantitative maps are not on this machine",
        "figure views is left out: the grid's quantitative maps are not on this machine",
    ]
    for figure in figures:
        data = figure.path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(data) < 400_000
        width, _ = struct.unpack(">II", data[16:24])
        assert 1000 <= width <= 1200
        assert figure.title
        assert figure.caption.endswith(".")


def test_nothing_found_makes_no_figure_and_a_line_for_each(
    results: Results, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert write_figures(empty(results), tmp_path) == []
    assert len(caplog.messages) == 13
    assert not list(tmp_path.glob("*.png"))
