"""synthetic.json: each task trains and validates on contrasts simulated from labelled maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.bundles import BUNDLES
from scripts.cohort.qmri_cohort import make_qmri_cohort
from scripts.tasks import TASKS


@pytest.fixture(scope="module")
def labelled_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six subjects at 8 mm, of whom half have a lesion."""
    return make_qmri_cohort(tmp_path_factory.mktemp("synthetic") / "cohort", 6, 0, 8.0, progress=False)


@pytest.mark.parametrize("task", TASKS)
def test_a_task_trains_on_simulated_contrasts(task: str, labelled_cohort: Path, tmp_path: Path) -> None:
    configs = BUNDLES / task / "configs"
    settings: dict[str, Any] = {
        "bundle_root": str(BUNDLES / task),
        "dataset_dir": str(labelled_cohort),
        "work_dir": str(tmp_path / "work"),
        "output_dir": str(tmp_path / "eval"),
        "tracking_uri": f"sqlite:///{tmp_path}/mlruns.db",
        "features": [2, 2, 4, 4, 8, 2],
        "patch_size": 32,
        "batch_size": 2,
        "epoch_length": 2,
        "max_epochs": 2,
        "val_interval": 1,
        "num_workers": 0,
        "device": torch.device("cpu"),
    }

    def train(folder: str, **changed: Any) -> dict[str, Any]:
        files = [str(configs / name) for name in ("train.json", "synthetic.json")]
        places = {"ckpt_dir": str(tmp_path / folder)}
        workflow = ConfigWorkflow(config_file=files, logging_file=False, **{**settings, **places, **changed})
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        saved: dict[str, Any] = torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)
        return saved

    read = train("read")
    assert (read["epoch"], read["iteration"]) == (2, 4)
    assert read["settings"]["modality"] == "synthetic"
    assert read["best"]["epoch"] in (1, 2)
    split = json.loads((tmp_path / "work" / "split.json").read_text())
    assert [len(split[part]) for part in ("training", "validation", "test")] == [4, 1, 1]
    assert all(value.isfinite().all() for value in read["model"].values())
    if task == "arc_lesion":
        resident = train("resident", resident=True)["model"]
        for name, value in read["model"].items():
            assert torch.equal(value, resident[name]), "regions cut on the device are those that are read"
