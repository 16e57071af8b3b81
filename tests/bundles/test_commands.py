"""``python -m scripts``: cohort, gallery, and what it says to a wrong command line."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from scripts.__main__ import main
from scripts.data.qmri import find_subjects


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def run(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["scripts", *map(str, words)])
        main()

    return run


def test_cohort_is_one_that_training_reads(
    typed: Callable[..., None], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    typed("cohort", "qmri", "--out", tmp_path / "qmri", "--subjects", 3, "--seed", 4, "--spacing", 5)
    assert [entry["subject"] for entry in find_subjects(tmp_path / "qmri")] == ["sub-001", "sub-002", "sub-003"]
    assert f"--dataset_dir {tmp_path / 'qmri'}" in capfd.readouterr().out


def test_gallery_draws_a_healthy_and_a_stroke_brain(
    typed: Callable[..., None], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pictures" / "gallery.png"
    typed("gallery", "--out", path, "--dataset_dir", cohort)
    assert capsys.readouterr().out.strip() == str(path)
    picture = matplotlib.image.imread(path)[..., :3].mean(axis=-1)
    rows = picture[len(picture) // 10 :]
    columns = np.array_split(rows, 7, axis=1)
    for column in columns:
        for row in np.array_split(column, 2):
            assert row.std() > 0.1
    assert all(np.abs(a[:, :90] - b[:, :90]).mean() > 0.01 for a, b in pairwise(columns))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("gallery", "--out", "x.png", "--dataset_dir", "no/folder"), "no/folder"),
        (("gallery", "--out", "x.png", "--dataset_dir", "no/folder", "--height", "1.5"), "height is 1.5"),
        (("cohort", "qmri", "--out", "x", "--subjects", "0"), "subjects"),
        (("cohort", "qmri", "--out", "x", "--spacing", "50"), "spacing"),
        # fire alone would run the whole demo before it complained
        (("demo", "--subject", "3"), "unknown option --subject: use --out, --seed, --subjects, --max_epochs"),
        (("demo", "--out", "x", "--tasks", "ixi_sag"), "task 'ixi_sag' is unknown: choose ixi_seg"),
        (
            ("predict", "ixi_sag", "x.nii.gz", "--out", "y"),
            "bundle ixi_sag is unknown: choose pretrain_seqinv, ixi_seg",
        ),
        (("cohort", "ixi", "--out", "x", "--guys", "-1"), "guys is -1"),
        (("cohort", "arc", "--out", "x", "--spacing", "0.1"), "spacing is 0.1"),
        (("cohort", "qmri", "--out=x", "--sub-jects=3"), "unknown option --sub-jects=3"),
    ],
    ids=[
        *("dataset", "height", "subjects", "spacing", "option", "task", "bundle", "heads", "arc spacing"),
        "option with value",
    ],
)
def test_bad_input_is_one_line(
    typed: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        typed(*words)
    line = str(caught.value.code)  # what sys.exit prints before it ends with status 1
    assert line.startswith("error: ")
    assert told in line
    assert "\n" not in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("galery",), ("gallery",), ("cohort", "qmri")], ids=" ".join)
def test_a_mistyped_command_line_shows_the_usage(
    typed: Callable[..., None], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        typed(*words)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "Usage:" in said
    assert "python -m scripts" in said


def test_command_ends_with_status_1(execute: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    done = execute(
        [sys.executable, "-m", "scripts", "gallery", str(tmp_path / "x.png"), str(tmp_path / "none")], anew=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
