from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.errors import InputError
from scripts.handlers.feature_step import FeatureStep
from scripts.handlers.invariance_report import InvarianceReport
from scripts.handlers.invariance_text import format_table, untrained_warning
from scripts.networks import Encoder
from scripts.views.sequence_views import SequenceViews

NAMES = ("MPRAGE", "T2w FSE", "FLAIR")
SIDE = 32


@pytest.fixture
def maps() -> Tensor:
    """(3, 4, 32, 32, 32): white matter around a ball of fluid, in grey matter, each anatomy with a ball elsewhere."""
    grid = torch.stack(torch.meshgrid(*[torch.arange(SIDE)] * 3, indexing="ij")).float()
    tissue = torch.tensor([[80.0, 0.62, 17, 0.85], [70, 0.95, 21, 1.55], [100, 0.24, 2, 0.03]])
    anatomies = []
    for shift in (0, 4, 8):
        radius = (grid - torch.tensor([15.5, 15.5, 11.5 + shift]).view(3, 1, 1, 1)).norm(dim=0)
        label = torch.zeros(SIDE, SIDE, SIDE, dtype=torch.long)
        label[radius < 11] = 1
        label[radius < 5] = 2
        anatomy = tissue[label].movedim(-1, 0).clone()
        anatomy[:, :4] = 0
        anatomies.append(anatomy)
    return torch.stack(anatomies)


@pytest.fixture
def batch(maps: Tensor) -> dict[str, Any]:
    return {"maps": maps.half(), "subject": ["a", "b", "c"], "step": torch.tensor([5, 5, 5])}


@pytest.fixture
def engine() -> Any:
    return SimpleNamespace(state=SimpleNamespace(device=torch.device("cpu")))


class Blocks(nn.Module):
    """Means of blocks of 8 and of 16 voxels: features whose place and value are known."""

    def levels(self, x: Tensor) -> tuple[Tensor, ...]:
        return F.avg_pool3d(x, 8), torch.cat([F.avg_pool3d(x, 16)] * 2, dim=1)


def test_sequences_share_the_geometry_and_differ_in_contrast(maps: Tensor) -> None:
    views = SequenceViews(NAMES, SIDE, noise=0.0, bias=0.0)
    images = views(maps, 3).view(3, 3, SIDE, SIDE, SIDE)
    for s, name in enumerate(NAMES):
        for b in range(3):
            image, r1 = images[s, b], maps[b, 1]
            grey, white, fluid = ((r1 - value).abs() < 0.01 for value in (0.62, 0.95, 0.24))
            # no warp and no crop: within each tissue of the maps the image is flat
            assert max(float(image[mask].std()) for mask in (grey, white, fluid)) < 1e-3
            levels = [float(image[mask].mean()) for mask in (grey, white, fluid)]
            order = {"MPRAGE": [1, 0, 2], "T2w FSE": [2, 0, 1]}.get(name)
            if order is not None:
                assert sorted(range(3), key=lambda tissue: -levels[tissue]) == order


def test_noise_and_bias_are_those_of_the_step(maps: Tensor) -> None:
    views = SequenceViews(NAMES, SIDE)
    first, again, other = (views(maps, step) for step in (3, 3, 4))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert float((first - other).abs().mean()) > 1e-3
    assert float((first - SequenceViews(NAMES, SIDE, seed=1)(maps, 3)).abs().mean()) > 1e-3


@pytest.mark.parametrize("names", [["MPRAGE"], ["MPRAGE", "T9w"]], ids=["one", "unknown"])
def test_sequences_are_checked(names: list[str]) -> None:
    with pytest.raises(InputError, match=r"two or more of .*MPRAGE"):
        SequenceViews(names, SIDE)


def test_features_are_those_of_a_direct_pass(batch: dict[str, Any], engine: Any) -> None:
    torch.manual_seed(0)
    encoder = Encoder(features=(2, 2, 3, 3, 4), dropout=0.5)
    views = SequenceViews(NAMES, SIDE)
    found = FeatureStep(views, {"it": encoder}, images=2)(engine, batch)
    assert not encoder.training
    with torch.no_grad():
        expected = encoder(views(batch["maps"].float(), 5)).flatten(2).mean(2)
    for b in range(3):
        for s in range(3):
            torch.testing.assert_close(found["it"]["pooled"][b, s], expected[3 * s + b], rtol=1e-4, atol=1e-5)
    assert found["subject"] == ["a", "b", "c"]


def test_sampled_cells_are_brain_and_correspond_across_sequences(
    batch: dict[str, Any], maps: Tensor, engine: Any
) -> None:
    views = SequenceViews(NAMES, SIDE)
    found = FeatureStep(views, {"it": Blocks()}, dense_levels=(0,), cells=20)(engine, batch)
    images = views(batch["maps"].float(), 5).view(3, 3, SIDE, SIDE, SIDE)
    for b, (features, tissue) in enumerate(found["it"][0]):
        assert features.shape == (20, 3, 1)
        assert tissue.shape == (20, 3)
        # naive: which of the 64 blocks has these three means?
        places = []
        for cell in features[..., 0]:
            for number in range(64):
                i, j, k = (8 * (number // d % 4) for d in (16, 4, 1))
                block = (slice(i, i + 8), slice(j, j + 8), slice(k, k + 8))
                if all(abs(float(images[s, b][block].mean()) - cell[s]) < 1e-4 for s in range(3)):
                    places.append((number, block))
        assert len({number for number, _ in places}) == len(places) == 20
        for (_, block), shares in zip(places, tissue, strict=True):
            pd, r1 = maps[b, 0][block], maps[b, 1][block]
            assert float((pd > 0).float().mean()) >= 0.5
            white = float((r1[pd > 0] > 0.78).float().mean())
            assert shares[1] == pytest.approx(white, abs=1e-4)


def test_report_has_every_encoder_and_level_once(batch: dict[str, Any], engine: Any, tmp_path: Any) -> None:
    step = FeatureStep(SequenceViews(NAMES, SIDE), {"it": Blocks(), "other": Blocks()}, dense_levels=(-1, 0), cells=6)
    report = InvarianceReport(step, tmp_path, {"test": ["a", "b", "c"], "cohort": "embedded"})
    report.batches = [step(engine, {**batch, "step": torch.tensor([n] * 3)}) for n in range(3)]
    table = report.table()
    assert set(table["level"]) == {"pooled", "dense", "dense, level 0"}
    assert not table.duplicated(["encoder", "level", "metric"]).any()
    # two names for one encoder: their rows are the same
    rows = [table[table["encoder"] == name].drop(columns="encoder").reset_index(drop=True) for name in step.encoders]
    assert rows[0].equals(rows[1])
    lines = format_table(table, list(step.encoders)).splitlines()
    assert len(lines) == 1 + len(rows[0])
    assert lines[1].startswith("retrieval_top1 (pooled)")


def test_an_encoder_blind_to_the_sequence_is_perfectly_retrieved(
    batch: dict[str, Any], engine: Any, tmp_path: Any, maps: Tensor
) -> None:
    class Anatomy(nn.Module):
        """Gives each image the number of its anatomy, whatever its contrast."""

        def levels(self, x: Tensor) -> tuple[Tensor, ...]:
            anatomy = torch.tensor([calls.pop(0) for _ in range(len(x))])
            code = F.one_hot(anatomy, 6).float()[:, :, None, None, None]
            return (code.expand(-1, -1, 2, 2, 2),)

    calls = [0, 1, 2] * 3 + [3, 4, 5] * 3
    step = FeatureStep(SequenceViews(NAMES, SIDE), {"it": Anatomy()}, cells=4)
    report = InvarianceReport(step, tmp_path, {"test": ["a", "b", "c"], "cohort": "embedded"})
    report.batches = [step(engine, batch), step(engine, batch)]
    pooled = report.table().query("level == 'pooled'").set_index("metric")["value"]
    assert pooled["retrieval_top1"] == 1
    assert pooled["alignment"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("trained", "told"), [((0.12, 0.08, 0.17), True), ((0.30, 0.25, 0.40), False), ((0.80, 0.70, 0.90), False)]
)
def test_an_encoder_clearly_worse_than_the_untrained_one_is_told(
    trained: tuple[float, float, float], told: bool
) -> None:
    rows = [("pretrained", *trained), ("random", 0.36, 0.31, 0.41)]
    table = pd.DataFrame(rows, columns=["encoder", "value", "low", "high"])
    table = table.assign(metric="retrieval_top1", level="pooled")
    line = untrained_warning(table)
    assert bool(line) == told
    assert not told or ("(0.120)" in line and "(0.360)" in line and "lower --learning_rate" in line)
    # one encoder alone has nothing to be compared with
    assert untrained_warning(table[table["encoder"] == "pretrained"]) == ""
