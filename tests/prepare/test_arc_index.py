"""The split of ARC from its real file list, without an image."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from scripts.data.splits import split_subjects
from scripts.prepare.arc_subject import find_sessions
from scripts.prepare.datalist import _ABOUT, tell_datalists
from scripts.prepare.prepare_arc import EXPECTED_COUNTS

INDEX = Path("scripts/prepare/arc_index_v1.0.2.csv")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of the index, empty, in the folders that version 1.0.2 has."""
    root = tmp_path_factory.mktemp("ds004884")
    with INDEX.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            for column in ("mask", "t2w", "t1w", "flair"):
                for name in filter(None, row[column].split(";")):
                    path = root / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.touch()
    return root


def test_the_published_counts(listed: Path) -> None:
    sessions = find_sessions(listed)
    assert len(sessions) == 228
    assert all(len(session.masks) == 1 for session in sessions.values())
    for modality, counts in EXPECTED_COUNTS.items():
        names = [name for name, session in sessions.items() if session.images[modality]]
        split = split_subjects(names)
        assert tuple(len(split[part]) for part in ("training", "validation", "test")) == counts
    assert EXPECTED_COUNTS == {"T2w": (159, 22, 47), "T1w": (142, 20, 41), "FLAIR": (59, 8, 18)}
    assert _ABOUT["arc"]["licence"] == "CC0"


def test_sessions_with_several_images_of_a_kind(listed: Path) -> None:
    """Known of 1.0.2: one session has two T2w (the mask names its own), another two FLAIR."""
    sessions = find_sessions(listed)
    several = {
        (name, modality): len(paths)
        for name, session in sessions.items()
        for modality, paths in session.images.items()
        if len(paths) > 1
    }
    assert several == {("sub-M2054", "FLAIR"): 2}
    for name, session in sessions.items():
        (mask,) = session.masks
        assert mask.name.replace("_desc-lesion_mask", "") in {path.name for path in session.images["T2w"]}, name


def test_the_paper_s_counts_are_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    parts = ("training", "validation", "test")
    counts = {"T2w": dict(zip(parts, (159, 22, 47), strict=True)), "FLAIR": dict(zip(parts, (3, 1, 1), strict=True))}
    tell_datalists(tmp_path, counts, EXPECTED_COUNTS)
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Split: T2w: 159 training, 22 validation, 47 test, as in the paper  ({tmp_path}/datalist-T2w.json)"
    assert second == f"Split: FLAIR: 3 training, 1 validation, 1 test  ({tmp_path}/datalist-FLAIR.json)"
