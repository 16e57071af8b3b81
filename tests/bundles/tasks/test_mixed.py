"""mixed.json: each task trains on labelled images and on contrasts simulated from labelled maps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.tasks import TASKS
from tests.bundles.tasks.conftest import configs_of


@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_on_both(
    task: str,
    tmp_path: Path,
    small_cohorts: dict[str, Path],
    task_settings: Callable[..., dict[str, Any]],
    run_here: Callable[..., ConfigWorkflow],
) -> None:
    shown: list[int] = []

    def train(name: str, **changed: Any) -> dict[str, torch.Tensor]:
        settings = task_settings(task, tmp_path, epoch_length=4, max_epochs=2, **changed)
        settings["ckpt_dir"] = str(tmp_path / name)
        files = ["train.json", "mixed.json"]
        more = {"maps_dir": str(small_cohorts["qmri"]), "val_interval": 2, "num_workers": 0}
        workflow = run_here(files, {**settings, **more}, folder=configs_of(task))
        data = workflow.parser.get_parsed_content("train::dataset")
        shown[:] = [data.is_simulated(step) for step in range(8)]
        found: dict[str, torch.Tensor] = torch.load(tmp_path / name / "model.pt", weights_only=True)
        return found

    whole = train("whole")
    assert {False, True} == set(shown), "these steps hold both kinds"
    assert all(value.isfinite().all() for value in whole.values())
    if task == "ixi_seg":
        only_images = train("images", synthetic=0.0)
        assert any(not torch.equal(value, only_images[name]) for name, value in whole.items())
