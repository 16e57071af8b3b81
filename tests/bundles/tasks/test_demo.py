"""What the demo says at its end, of trainings that are there; .ci/run has the demo itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scripts.demo import tell_results

HEADLINES = {"ixi_seg": ("DSC", "all"), "arc_lesion": ("DSC", "lesion"), "ixi_denoise": ("PSNR_gain", "image")}


def test_it_ends_with_measures_places_and_the_next_command(
    trained_tasks: Callable[[str], dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in HEADLINES:
        (tmp_path / task).symlink_to(trained_tasks(task)["folder"])
    tell_results(tmp_path, list(HEADLINES), 1.5)
    told = capsys.readouterr().out
    assert "The demo took 1.5 min" in told
    for task, (metric, name) in HEADLINES.items():
        summary = pd.read_csv(tmp_path / task / "eval" / "summary.csv")
        means = summary[(summary["metric"] == metric) & (summary["class"] == name)].set_index("site")["mean"]
        assert len(means)
        for site, value in means.items():
            assert re.search(rf"{task} +{site} +{metric} +{value:.3f}", told), (task, site)
    for place in (tmp_path / "models" / "model.pt", tmp_path / "eval" / "invariance.csv"):
        assert str(place) in told
    assert f"sqlite:///{tmp_path / 'mlruns.db'}" in told
    assert [line.strip() for line in told.strip().splitlines()[-2:]] == [
        f"python -m monai.bundle run --config_file bundles/{name}/configs/train.json"
        for name in ("pretrain_seqinv", "ixi_seg")
    ]
