from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.data.qmri import find_subjects, load_maps
from scripts.errors import InputError
from scripts.experiment.figures.contrasts import contrast_gallery, protocol_lines, view_pairs
from scripts.experiment.figures.drawing import Drawing
from scripts.experiment.results.collect import Results
from scripts.experiment.results.scores import NothingFoundError
from scripts.physics import default_protocol, simulate, typical_protocols


@pytest.fixture(scope="module")
def cohort(small_cohorts: dict[str, Path]) -> Path:
    return small_cohorts["qmri"]


@pytest.fixture
def here(results: Results, cohort: Path) -> Results:
    return replace(results, facts={**results.facts, "qmri": str(cohort)})


@pytest.fixture
def views(here: Results) -> Drawing:
    return view_pairs(here)


def test_lines_of_a_protocol_have_units() -> None:
    assert protocol_lines(default_protocol("mprage")) == ["TR 2300 ms", "TE 3.0 ms", "TI 900 ms", "FA 9\N{DEGREE SIGN}"]
    assert protocol_lines(default_protocol("fse")) == ["TR 5000 ms", "TE 100 ms"]
    assert protocol_lines(default_protocol("mp2rage"))[2:] == ["TI 800/2200 ms", "FA 4/5\N{DEGREE SIGN}"]


def test_gallery_has_a_row_per_group_and_a_named_column_per_contrast(here: Results) -> None:
    axes = np.reshape(contrast_gallery(here).figure.axes, (2, 7))
    assert [axis.get_title() for axis in axes[0]] == list(typical_protocols())
    assert {axes[0, 0].get_ylabel(), axes[1, 0].get_ylabel()} == {"healthy", "stroke"}
    assert axes[1, 4].get_xlabel().split("\n") == protocol_lines(typical_protocols()["FLAIR"])


def test_gallery_shows_simulated_signal(here: Results, cohort: Path) -> None:
    axes = np.reshape(contrast_gallery(here).figure.axes, (2, 7))
    entry = next(e for e in find_subjects(cohort) if e["group"] == axes[0, 0].get_ylabel())
    maps, _ = load_maps(entry)
    drawn = np.asarray(axes[0, 3].images[0].get_array()).T
    kwargs = {"r2": torch.from_numpy(maps[None, 4:5]), "r2_from": "r2"} if len(maps) > 4 else {"r2_from": "r2star"}
    whole = simulate(torch.from_numpy(maps[None, :4]), [typical_protocols()["T2w FSE"]], **kwargs)[0, 0].numpy()
    bare = drawn[np.ix_((drawn > 0).any(1), (drawn > 0).any(0))]
    found = False
    for level in range(whole.shape[2]):
        plane = whole[:, :, level]
        if (plane > 0).any():
            inside = plane[np.ix_((plane > 0).any(1), (plane > 0).any(0))]
            found = found or (inside.shape == bare.shape and np.allclose(inside, bare, rtol=1e-5))
    assert found


def protocols_of(views: Drawing) -> np.ndarray:
    """What stands beneath each view after its number, (3 variants, 2 anatomies, 2 views)."""
    told = [axis.get_xlabel().split(": ", 1)[1] for axis in views.figure.axes]
    return np.reshape(told, (3, 2, 2))


def test_views_of_each_variant_are_paired_as_it_pairs_them(views: Drawing) -> None:
    base, seqaug, seqinv = protocols_of(views)
    assert len(set(base.ravel())) == 1
    assert base[0, 0].startswith("MPRAGE\nTR 2300 ms, TE 3.0 ms\nTI 900 ms")
    assert (seqaug[:, 0] == seqaug[:, 1]).all()
    assert seqaug[0, 0] != seqaug[1, 0]
    names = np.vectorize(lambda told: told.split("\n")[0])(seqinv)
    assert (names[:, 0] != names[:, 1]).all()
    titles = [axis.get_title(loc="left") for axis in views.figure.axes[::4]]
    assert [title.split(":")[0] for title in titles] == ["Base", "SeqAug", "SeqInv"]


def test_views_are_pictures_of_a_brain_and_all_differ(views: Drawing) -> None:
    planes = [np.asarray(axis.images[0].get_array()) for axis in views.figure.axes]
    assert all(plane.shape == planes[0].shape and plane.std() > 0.1 for plane in planes)
    assert len({plane.tobytes() for plane in planes}) == 12
    assert f"({len(planes[0])} voxels of 4 mm" in views.caption


def test_views_are_the_same_each_time(here: Results, views: Drawing) -> None:
    again = view_pairs(here)
    for one, other in zip(views.figure.axes, again.figure.axes, strict=True):
        assert np.array_equal(one.images[0].get_array(), other.images[0].get_array())


@pytest.mark.parametrize("draw", [contrast_gallery, view_pairs])
def test_maps_elsewhere_or_empty(results: Results, tmp_path: Path, draw) -> None:
    for facts in ({}, {"qmri": str(tmp_path / "gone")}):
        with pytest.raises(NothingFoundError, match="not on this machine"):
            draw(replace(results, facts=facts))
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    with pytest.raises(InputError, match="hollow"):
        draw(replace(results, facts={"qmri": str(hollow)}))
