from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from scripts.cohort.qmri_cohort import make_qmri_cohort
from scripts.errors import InputError
from scripts.sources.pretraining_data import PROVENANCE, pretraining_data


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_qmri_cohort(tmp_path_factory.mktemp("cohort") / "qmri", 6, 1, 6.0, progress=False)


def test_subjects_are_split_stored_and_told_apart_from_real_ones(cohort: Path, tmp_path: Path) -> None:
    data = pretraining_data(cohort, tmp_path / "work", fractions=(0.5, 0.2))
    names = [[entry["subject"] for entry in data[part]] for part in ("training", "validation", "test")]
    assert names == [["sub-001", "sub-002", "sub-003"], ["sub-004"], ["sub-005", "sub-006"]]
    assert all(Path(f"{entry['store']}").parent.parent == tmp_path / "work" / "cache" for entry in data["training"])
    assert data["cohort"] == "embedded"
    assert data["dataset_dir"] == str(cohort)
    assert json.loads((tmp_path / "work" / "split.json").read_text())["sha256"] == data["sha256"]

    real = Path(shutil.copytree(cohort, tmp_path / "real"))
    (real / PROVENANCE).unlink()
    again = pretraining_data(real, tmp_path / "work", fractions=(0.5, 0.2))
    assert again["cohort"] == "real"
    assert again["sha256"] == data["sha256"]


def test_the_embedded_cohort_is_made_once_and_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"subjects": 3, "seed": 2, "spacing": 6.0}
    with caplog.at_level("INFO", "scripts"):
        data = pretraining_data("embedded", tmp_path, embedded=settings)
    folder = tmp_path / "cohort-n3-s2-6mm"
    assert f"training on the embedded cohort, simulated anatomy, in {folder}" in caplog.text
    assert data["dataset_dir"] == str(folder)
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}
    assert len(made) >= 3 * 4
    assert pretraining_data("embedded", tmp_path, embedded=settings) == data
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")} == made


def test_a_folder_that_does_not_exist_is_never_a_silent_phantom(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="typo does not exist: give a folder of quantitative maps, or 'embedded'"):
        pretraining_data(tmp_path / "typo", tmp_path / "work")
    assert not (tmp_path / "work").exists()
