from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy.spatial import cKDTree

from scripts.experiment.figures.invariance_dots import draw_invariance, invariance_dots, study_invariance
from scripts.experiment.figures.palette import MODALITY_COLOURS, SITE_COLOURS
from scripts.experiment.figures.tsne import embed, feature_tsne
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.variants import variant_label


def panels(drawing: object, level: int) -> dict[str, object]:
    """Title -> axes of one level."""
    return {axis.get_title().replace("\n", " "): axis for axis in drawing.figure.subfigs[level].axes}


def test_dots_intervals_and_chance_are_those_of_the_table(results: Results) -> None:
    table = results.invariance.copy()
    # every encoder has a chance of its own for the distance
    table["chance"] = np.linspace(0.001, 0.2, len(table))
    drawing = invariance_dots(replace(results, invariance=table))
    for level, name in enumerate(("pooled", "dense")):
        axis = panels(drawing, level)["sequence told by a linear probe"]
        rows = table[(table["level"] == name) & (table["metric"] == "sequence_probe")].set_index("variant")
        first = drawing.figure.subfigs[level].axes[0]
        assert [text.get_text() for text in first.get_yticklabels()] == ["Base", "SeqAug", "SeqInv", "Random"]
        marks = [line for line in axis.lines if line.get_marker() == "|" and line.get_label() == "_chance"]
        for place, variant in enumerate(("base", "seqaug", "seqinv", "random")):
            dot, _, (bar,) = next(c for c in axis.containers if c.get_label() == variant_label(variant)).lines
            (segment,) = bar.get_segments()
            assert dot.get_xdata() == pytest.approx([rows.loc[variant, "value"]])
            assert dot.get_ydata() == pytest.approx([place])
            assert segment[:, 0] == pytest.approx(rows.loc[variant, ["low", "high"]].to_numpy(dtype=float))
            assert marks[place].get_xdata() == pytest.approx([rows.loc[variant, "chance"]])


def test_arrows_point_to_the_better_side(results: Results) -> None:
    told = {title: axis.get_xlabel() for title, axis in panels(invariance_dots(results), 0).items()}
    assert told == {
        "retrieval of the anatomy in another sequence, top 1": "better \N{RIGHTWARDS ARROW}",
        "distance of one anatomy in two sequences": "\N{LEFTWARDS ARROW} better",
        "sequence told by a linear probe": "\N{LEFTWARDS ARROW} better",
        "tissue fractions, R\N{SUPERSCRIPT TWO} in a sequence not seen": "better \N{RIGHTWARDS ARROW}",
    }


def test_study_has_a_figure_of_its_own_with_all_variants(results: Results) -> None:
    main, study = invariance_dots(results).figure, study_invariance(results).figure
    assert [len(figure.subfigs[0].axes[0].get_yticklabels()) for figure in (main, study)] == [4, 6]
    without = results.invariance[~results.invariance["variant"].str.startswith("seqinv-")]
    with pytest.raises(NothingFoundError, match="no encoder of the study"):
        study_invariance(replace(results, invariance=without))


def test_a_dot_for_each_seed_and_a_new_measure_under_its_own_name(results: Results) -> None:
    table = results.invariance[results.invariance["variant"] == "seqinv"]
    more = pd.concat([table, table.assign(seed=1, value=table["value"] + 0.1), table.assign(metric="new_measure")])
    drawing = invariance_dots(replace(results, invariance=more))
    axis = panels(drawing, 1)["sequence told by a linear probe"]
    dot = axis.containers[0].lines[0]
    assert len(dot.get_xdata()) == 2
    assert len(set(dot.get_ydata())) == 2
    assert "a dot for each of 2 seeds" in drawing.caption
    assert "new measure" in panels(drawing, 0)


def test_distances_over_decades_are_on_a_log_axis(results: Results) -> None:
    table = results.invariance[results.invariance["metric"] == "alignment"].copy()
    table[["value", "low", "high"]] = [0.02, 0.01, 0.03]
    table["chance"] = np.where(table["level"] == "dense", 1.5, 0.05)
    scales = [block.axes[0].get_xscale() for block in draw_invariance(table).subfigs]
    assert scales == ["linear", "log"]


def test_an_encoder_without_an_interval_has_its_dot(results: Results) -> None:
    table = results.invariance[results.invariance["level"] == "pooled"].assign(low=np.nan, high=np.nan)
    figure = draw_invariance(table)
    assert len(figure.subfigs) == 1
    dots = [container.lines[0].get_xdata(orig=False)[0] for container in figure.subfigs[0].axes[0].containers]
    assert dots == pytest.approx([0.2, 0.22, 0.25, 0.16, 0.23, 0.23])


def test_map_is_the_same_each_time_and_does_not_see_the_scale_of_a_feature() -> None:
    vectors = np.random.default_rng(0).standard_normal((40, 8))
    scaled = vectors * 2.0 ** np.arange(8)
    assert np.array_equal(embed(vectors), embed(vectors))
    assert np.array_equal(embed(vectors), embed(scaled))


def test_map_keeps_groups_that_are_far_apart_apart() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 20)
    found = embed(rng.standard_normal((60, 8)) + 20 * np.eye(8)[groups])
    _, nearest = cKDTree(found).query(found, k=6)
    assert (groups[nearest] == groups[:, None]).all()


@pytest.mark.parametrize("count", [10, 30, 100])
def test_map_of_few_and_of_many_images(count: int) -> None:
    found = embed(np.random.default_rng(0).standard_normal((count, 4)))
    assert found.shape == (count, 2)
    assert np.isfinite(found).all()


def test_every_image_is_drawn_once_in_the_colour_of_its_group(results: Results) -> None:
    # the same encoder is evaluated at several fractions: its images count once
    again = results.features[results.features["variant"] == "base"].assign(fraction=0.01)
    drawing = feature_tsne(replace(results, features=pd.concat([results.features, again], ignore_index=True)))
    assert "78 test images (26 subjects)" in drawing.caption
    by_modality, by_site = (block.axes for block in drawing.figure.subfigs)
    assert [axis.get_title() for axis in by_modality] == [
        f"{name}, by modality" for name in ("Base", "SeqAug", "SeqInv", "Random")
    ]
    for axis in by_modality:
        counts = {to_hex(line.get_color()).upper(): len(line.get_xdata()) for line in axis.lines}
        assert counts == {MODALITY_COLOURS[name]: 26 for name in ("T1w", "T2w", "PDw")}
    counts = {to_hex(line.get_color()).upper(): len(line.get_xdata()) for line in by_site[0].lines}
    assert counts == {SITE_COLOURS["Guys"]: 30, SITE_COLOURS["HH"]: 24, SITE_COLOURS["IOP"]: 24}


def test_points_of_both_rows_are_the_map_of_the_features(results: Results) -> None:
    drawing = feature_tsne(results)
    own = results.features[results.features["variant"] == "seqinv"].sort_values(["modality", "site", "subject"])
    expected = embed(own[[f"f{n}" for n in range(16)]].to_numpy())
    for block in drawing.figure.subfigs:
        drawn = np.concatenate([line.get_xydata() for line in block.axes[2].lines])
        assert np.array_equal(np.sort(drawn, axis=0), np.sort(expected, axis=0))


def test_too_few_images_are_left_out(results: Results) -> None:
    features = results.features
    few = features[(features["variant"] != "base") | (features["subject"] == "IXI000-HH-0000")]
    figure = feature_tsne(replace(results, features=few)).figure
    assert len(figure.subfigs[0].axes) == 3
    with pytest.raises(NothingFoundError, match="features of 10 images"):
        feature_tsne(replace(results, features=few[few["variant"] == "base"]))
