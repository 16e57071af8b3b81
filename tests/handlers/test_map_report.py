from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

from scripts.handlers.map_report import MapReport, residual_limit
from scripts.handlers.map_step import CONTROLS, MapStep
from scripts.views import ViewGenerator
from scripts.views.map_targets import MAP_NAMES, MAP_SCALES, standardise_maps

SIDE = 40
EXPECTED = 0.25
ENGINE: Any = SimpleNamespace(state=SimpleNamespace(device=torch.device("cpu")))


class Oracle:
    """Knows the maps of the views that are made of a batch, and gives them with a known error."""

    def __init__(self, batch: Mapping[str, Any], views: ViewGenerator, off: float) -> None:
        made = views(batch["maps"], int(batch["step"][0]), with_maps=True)
        self.known = dict(zip((image.sum().item() for image in made["image"]), made["maps"], strict=True))
        self.off = off

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        maps = self.known.get(image.sum().item(), next(iter(self.known.values())))
        head = maps[:1] > 0
        standard = standardise_maps(maps[None]) + self.off * head
        return {"maps": standard, "log_scale": torch.full_like(standard, math.log(EXPECTED))}


def anatomies() -> Tensor:
    """Balls of grey matter and fluid in white matter, in air: (2, 4, R, R, R)."""
    side = ViewGenerator(patch_size=SIDE).region_size
    grid = torch.stack(torch.meshgrid(*[torch.arange(side)] * 3, indexing="ij")).float()
    tissue = torch.tensor([[0.0, 0, 0, 0], [70, 0.95, 21, 1.55], [80, 0.62, 17, 0.85], [100, 0.24, 2, 0.03]])
    made = []
    for shift in (0, 6):
        label = torch.zeros(side, side, side, dtype=torch.long)
        for number, (radius, away) in enumerate([(19, 0), (13, shift), (6, 2 * shift)], 1):
            label[
                (grid - torch.tensor([side / 2, side / 2 + away / 4, side / 2]).view(3, 1, 1, 1)).norm(dim=0) < radius
            ] = number
        made.append(tissue[label].movedim(-1, 0))
    return torch.stack(made)


@pytest.fixture
def batch() -> dict[str, Any]:
    return {"maps": anatomies(), "subject": ["a", "b"], "step": torch.tensor([3, 3])}


def rows(batch: dict[str, Any], off: float) -> pd.DataFrame:
    views = ViewGenerator("seqinv", SIDE, prior="physical", seed=7)
    network = Oracle(batch, views, off)
    own = ViewGenerator("seqinv", SIDE, prior="physical", seed=1)
    step = MapStep(own, network, protocols="physical", each=8, spacing=2.0, seed=7)
    assert own.seed == 1  # the training's views are its own
    return pd.DataFrame(step(ENGINE, batch))


def test_true_maps_have_no_error_and_explain_their_views(batch: dict[str, Any]) -> None:
    table = rows(batch, off=0.0)
    assert list(table["image"]) == [*("view", *CONTROLS) * 2, "view", "view"]
    assert list(table["subject"]) == ["a"] * 4 + ["b"] * 4 + ["a", "b"]
    views = table[table["image"] == "view"]
    assert views["protocol"].nunique() == 4
    assert (views["error"] < 1e-5).all()
    assert (views["residual"] - views["residual_true"]).abs().max() < 0.02  # thin PD at the rim
    assert views["residual"].max() < 0.4  # noise, bias field, ringing and few candidates
    for control in CONTROLS:
        assert table[table["image"] == control]["residual"].min() > views["residual"].median()
    for name, scale in zip(MAP_NAMES, MAP_SCALES, strict=True):
        assert views[f"expected_{name}"].tolist() == pytest.approx([EXPECTED * scale] * 4)


def test_an_error_is_told_in_the_unit_of_its_map(batch: dict[str, Any]) -> None:
    views = rows(batch, off=0.5).query("image == 'view'")
    assert views["error"].to_numpy() == pytest.approx(0.5, abs=1e-4)
    for name, scale in zip(MAP_NAMES, MAP_SCALES, strict=True):
        assert views[f"error_{name}"].to_numpy() == pytest.approx(0.5 * scale, rel=1e-3)


def test_a_head_too_small_has_no_residual(batch: dict[str, Any]) -> None:
    middle = batch["maps"].shape[-1] // 2
    small = torch.zeros_like(batch["maps"])
    part = slice(middle - 1, middle + 1)
    small[..., part, part, part] = torch.tensor([70.0, 0.95, 21, 1.55]).view(1, 4, 1, 1, 1)
    table = rows({**batch, "maps": small}, off=0.0)
    assert table["residual"].isna().all()


def test_tells_what_the_table_holds(batch: dict[str, Any], tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    report = MapReport(tmp_path, {"test": [1, 2], "cohort": "embedded"})
    table = rows(batch, off=0.5)
    table["error"] = [0.1 * number for number in range(len(table))]
    report.rows = table.to_dict("records")
    with caplog.at_level("INFO", "scripts"):
        report._report(ENGINE)
    table = pd.read_csv(tmp_path / "map_errors.csv")
    views = table[table["image"] == "view"]
    limit = residual_limit(views["residual"])
    assert f"type --residual_limit {limit:.2f} where maps are predicted" in caplog.text
    assert re.search(rf"^pd +p\.u\. +{views['error_pd'].mean():.3f} \[", caplog.text, re.MULTILINE)
    assert "4 views of 2 held-out subjects" in caplog.text
    assert set(table["cohort"]) == {"embedded"}


def test_limit_lies_above_all_but_one_in_twenty() -> None:
    values = pd.Series([number / 100 for number in range(1, 101)])
    limit = residual_limit(values)
    assert (values <= limit).mean() == pytest.approx(0.95, abs=0.011)
    assert residual_limit(pd.Series([3.0])) == 1.0
