from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.errors import InputError
from scripts.workflow.downstream_data import check_training

DATA = {"sha256": "0123456789abcdef"}


def trained(folder: Path, **settings: Any) -> Path:
    torch.save({"settings": {"split": "0123456789ab", "modality": "T1w", **settings}}, folder / "checkpoint.pt")
    return folder


def test_the_same_split_and_modality(tmp_path: Path) -> None:
    assert check_training(trained(tmp_path), DATA, "T1w") == "T1w"


def test_another_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint\.pt was trained by another split .*ff00, now 0123456789ab\)"):
        check_training(trained(tmp_path, split="ff00"), DATA, "T1w", cross_modality=True)


@pytest.mark.parametrize("word", [True, "true", "yes"])
def test_another_modality_is_tested_on_only_if_told(tmp_path: Path, word: Any) -> None:
    with pytest.raises(InputError, match=r"was trained on T1w: type --modality T1w, or --cross_modality true"):
        check_training(trained(tmp_path), DATA, "T2w", "false")
    assert check_training(tmp_path, DATA, "T2w", word) == "T1w"


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
