from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.cohort.arc_cohort import make_arc_cohort
from scripts.data.splits import split_subjects, write_split
from scripts.errors import InputError
from scripts.sources.downstream_data import check_training, downstream_data

DATA = {"sha256": "0123456789abcdef"}


def trained(folder: Path, **settings: Any) -> Path:
    torch.save({"settings": {"split": "0123456789ab", "modality": "T1w", **settings}}, folder / "checkpoint.pt")
    return folder


def test_the_same_split_and_modality(tmp_path: Path) -> None:
    assert check_training(trained(tmp_path), DATA, "T1w") == "T1w"


def test_another_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint\.pt was trained by another split .*ff00, now 0123456789ab\)"):
        check_training(trained(tmp_path, split="ff00"), DATA, "T1w", cross_modality=True)
    with pytest.raises(InputError, match=r"another split .*or train and test with --split_over dataset$"):
        check_training(tmp_path, DATA, "T2w", cross_modality=True)


@pytest.mark.parametrize("word", [True, "true", "yes"])
def test_another_modality_is_tested_on_only_if_told(tmp_path: Path, word: Any) -> None:
    with pytest.raises(InputError, match=r"was trained on T1w: type --modality T1w, or --cross_modality true"):
        check_training(trained(tmp_path), DATA, "T2w", "false")
    assert check_training(tmp_path, DATA, "T2w", word) == "T1w"


def test_a_network_of_simulated_contrasts_is_tested_on_any(tmp_path: Path) -> None:
    assert check_training(trained(tmp_path, split="ff00", modality="synthetic"), DATA, "T2w") == "synthetic"


def test_without_a_checkpoint_nothing_is_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert check_training(tmp_path, DATA, "T1w") == ""
    assert "checkpoint.pt is missing: nothing tells" in caplog.text


@pytest.mark.parametrize("content", [b"", b"text", {"epoch": 1}, {"settings": {"mode": "seqinv"}}], ids=str)
def test_a_checkpoint_that_does_not_tell_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "checkpoint.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=r"checkpoint\.pt is damaged, or no checkpoint of this task") as caught:
        check_training(tmp_path, DATA, "T1w")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_arc_cohort(tmp_path_factory.mktemp("arc") / "arc", 9, spacing=8.0, jobs=1, progress=False)


def parts(data: dict[str, Any]) -> list[list[str]]:
    return [[entry["subject"] for entry in data[part]] for part in ("training", "validation", "test")]


def test_the_subjects_of_a_modality_are_split_or_all(arc: Path, tmp_path: Path) -> None:
    names = ["sub-M2002", "sub-M2005", "sub-M2007"]  # have a FLAIR
    data = downstream_data("arc", arc, tmp_path, "FLAIR", split_over="modality")
    assert parts(data) == [names[:1], names[1:2], names[2:]]
    assert (tmp_path / "split-FLAIR.json").is_file()
    data = downstream_data("arc", arc, tmp_path, "FLAIR", split_over="dataset")
    assert parts(data) == [names[:2], names[2:], []]
    assert (tmp_path / "split.json").is_file()
    with pytest.raises(InputError, match=r"split_over='site' is unknown: choose dataset or modality"):
        downstream_data("arc", arc, tmp_path, "T1w", split_over="site")


def test_the_split_of_the_dataset_is_kept(arc: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = split_subjects([f"sub-M{2003 + i}" for i in range(7)], test=["sub-M2999"])
    path = write_split(kept, arc / "split-T2w.json")
    try:
        with caplog.at_level(logging.WARNING):
            data = downstream_data("arc", arc, tmp_path, "T2w", split_over="modality")
    finally:
        path.unlink()
    assert data["sha256"] == kept["sha256"]
    assert parts(data) == [kept["training"], kept["validation"], kept["test"][:-1]]
    assert "split-T2w.json is taken, not one made now; 2 subjects stand in no part of it" in caplog.text
