"""True maps in the place of found ones: the image that they made is explained, another is warned of."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from scripts.data.qmri import find_subjects, load_maps
from scripts.errors import InputError
from scripts.physics import default_protocol, rician, simulate
from scripts.transforms.map_table import MapTabled
from scripts.transforms.map_volumes import MAP_KEYS, SplitMapsd
from scripts.transforms.refit_image import RefitImaged
from scripts.transforms.render_maps import RenderMapsd


@pytest.fixture(scope="module")
def subject(small_cohorts: dict[str, Path]) -> tuple[Tensor, Any]:
    """Maps (5, I, J, K) of a simulated subject at 4 mm, R2 among them, and their affine."""
    maps, affine = load_maps(find_subjects(small_cohorts["qmri"])[0])
    return torch.from_numpy(np.ascontiguousarray(maps)).float(), affine


@pytest.fixture
def sample(subject: tuple[Tensor, Any]) -> dict[str, Any]:
    maps, affine = subject
    meta = {"filename_or_obj": "scans/sub-1_T1w.nii.gz"}
    return {"pred": MetaTensor(maps[:4], affine=affine, meta=meta), "foreground": maps[:1] > 0}


@pytest.mark.parametrize("sequence", ["mprage", "fse", "flair", "gre_mt"])
def test_what_the_maps_made_is_explained(subject: tuple[Tensor, Any], sample: dict[str, Any], sequence: str) -> None:
    """With noise of a fiftieth of the signal: cells of one voxel average none away."""
    clean = simulate(subject[0][None, :4], [default_protocol(sequence)])
    noise = torch.randn(2, *clean.shape, generator=torch.Generator().manual_seed(0))
    image = rician(clean, 0.02 * clean[clean > 0].square().mean().sqrt(), noise)[0]
    told = RefitImaged("pred", each=8, limit=0.3)({**sample, "image": image})
    assert told["residual"] < 0.25
    assert told["warning"] == ""
    assert "TR" in told["protocol"]


def test_what_is_something_else_is_warned_of(sample: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    image = torch.rand(sample["foreground"].shape, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING, "scripts"):
        told = RefitImaged("pred", each=8, limit=0.3)({**sample, "image": image})
    assert told["residual"] > 0.9
    start, end = "this scan is unlike any simulated protocol: the best of 36 leaves", "of its variance, above 30%; "
    assert re.fullmatch(rf"{start} (9\d|100)% {end}do not trust its maps", told["warning"])
    assert caplog.messages == [f"scans/sub-1_T1w.nii.gz: {told['warning']}"]


def test_a_head_too_small_to_compare_is_named(sample: dict[str, Any]) -> None:
    sample["foreground"] = torch.zeros_like(sample["foreground"])
    with pytest.raises(InputError, match=r"^scans/sub-1_T1w.nii.gz: refit: 0 cells"):
        RefitImaged("pred", each=0)({**sample, "image": torch.rand(sample["foreground"].shape)})


def test_parts_keep_their_channel_place_and_file(sample: dict[str, Any]) -> None:
    pred = sample["pred"]
    both = torch.cat([pred.as_tensor(), 0.1 * pred.as_tensor()])
    meta = {"filename_or_obj": pred.meta["filename_or_obj"]}
    parted = SplitMapsd("pred")({"pred": MetaTensor(both, affine=pred.affine, meta=meta)})
    names = [*MAP_KEYS, *(f"{name}_uncertainty" for name in MAP_KEYS)]
    assert list(parted) == ["pred", *names]
    for channel, name in enumerate(MAP_KEYS):
        torch.testing.assert_close(parted[name].as_tensor(), pred.as_tensor()[channel : channel + 1])
        torch.testing.assert_close(parted[f"{name}_uncertainty"].as_tensor(), 0.1 * parted[name].as_tensor())
    for name in names:
        torch.testing.assert_close(parted[name].affine, pred.affine)
        assert parted[name].meta["filename_or_obj"] == "scans/sub-1_T1w.nii.gz"
    assert list(SplitMapsd("pred")(sample)) == ["pred", "foreground", *MAP_KEYS]


def test_a_rendered_image_is_dark_outside_and_lies_as_the_maps(sample: dict[str, Any]) -> None:
    shown = RenderMapsd("pred", "flair", {"te": 0.09})(sample)["render-flair"]
    assert shown.shape == sample["foreground"].shape
    torch.testing.assert_close(shown.affine, sample["pred"].affine)
    assert float(shown[~sample["foreground"]].abs().max()) == 0
    assert float(shown[sample["foreground"]].median()) > 1


def test_the_table_has_one_row_a_scan(sample: dict[str, Any], tmp_path: Path) -> None:
    told = {"residual": 0.123456, "protocol": "FSE TR 5000 TE 100 ms", "warning": ""}
    write = MapTabled("pred", tmp_path)
    for name in ("a", "b", "a"):
        write({**sample, **told, "PDmap_file": str(tmp_path / f"{name}_PDmap.nii.gz")})
    with (tmp_path / "maps.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["maps"] for row in rows] == ["b_PDmap.nii.gz", "a_PDmap.nii.gz"]
    assert {row["residual"] for row in rows} == {"0.1235"}
    maps, head = sample["pred"].numpy(), sample["foreground"][0].numpy()
    for name, values in zip(MAP_KEYS, maps, strict=True):
        assert float(rows[0][f"median_{name}"]) == pytest.approx(np.median(values[head]), rel=1e-3)
    (tmp_path / "maps.csv").write_text("something,else\n1,2\n")
    written = tmp_path / "a_PDmap.nii.gz"
    written.touch()
    with pytest.raises(InputError, match=r"maps.csv is no table with the columns image, .*: move it away"):
        write({**sample, **told, "PDmap_file": str(written)})
    assert not written.exists()  # maps stand with their row or not at all
