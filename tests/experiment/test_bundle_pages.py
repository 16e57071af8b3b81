from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scripts.bundles import BUNDLE_NAMES, BUNDLES
from scripts.errors import InputError
from scripts.experiment.pages.bundle_pages import BEGIN, END, fill_bundle_pages
from scripts.experiment.results.collect import Results
from scripts.experiment.tables.text import Table


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """The bundles' own pages, copied."""
    for name in BUNDLE_NAMES:
        page = tmp_path / name / "docs" / "README.md"
        page.parent.mkdir(parents=True)
        shutil.copy(BUNDLES / name / "docs" / "README.md", page)
    return tmp_path


def text_of(bundles: Path, name: str) -> str:
    return (bundles / name / "docs" / "README.md").read_text()


def test_only_what_stands_between_the_marks_changes(results: Results, tables: list[Table], bundles: Path) -> None:
    before = {name: text_of(bundles, name) for name in BUNDLE_NAMES}
    pages = fill_bundle_pages(results, tables, bundles)
    assert sorted(page.parts[-3] for page in pages) == sorted(BUNDLE_NAMES)
    for name in BUNDLE_NAMES:
        for part in (0, -1):
            mark = (BEGIN, END)[part]
            assert text_of(bundles, name).split(mark)[part] == before[name].split(mark)[part]
    once = {name: text_of(bundles, name) for name in BUNDLE_NAMES}
    fill_bundle_pages(results, tables, bundles)
    assert {name: text_of(bundles, name) for name in BUNDLE_NAMES} == once


def test_numbers_are_those_of_the_tables_at_the_most_labels(
    results: Results, tables: list[Table], bundles: Path
) -> None:
    fill_bundle_pages(results, tables, bundles)
    frame = next(table.frame for table in tables if table.name == "table1")
    best = frame[(frame["fraction"] == 1.0) & (frame["site"] == "HH") & (frame["modality"] == "T2w")]
    cells = best.set_index("variant")
    text = re.sub(" +", " ", text_of(bundles, "ixi_seg"))
    (row,) = re.findall(r"^\| HH \[T2w\], n = \d+ \|.*$", text, re.M)
    assert f"| {cells['mean']['base']:.1f} ± {cells['standard_error']['base']:.1f} |" in row
    assert "| DSC [%], 100% labels | Base | SeqAug | SeqInv | Random |" in text
    assert "HD95 [mm]" in text_of(bundles, "arc_lesion")
    assert "PSNR gain [dB]" in text_of(bundles, "ixi_denoise")
    assert "retrieval of the anatomy in another sequence" in text_of(bundles, "pretrain_seqinv")
    for name in BUNDLE_NAMES:
        assert "simulated images: they say nothing about patients" in text_of(bundles, name)


def test_a_page_without_marks_is_told_and_none_is_written(results: Results, tables: list[Table], bundles: Path) -> None:
    page = bundles / "arc_lesion" / "docs" / "README.md"
    page.write_text(page.read_text().replace(END, ""))
    before = text_of(bundles, "ixi_seg")
    with pytest.raises(InputError, match=r"arc_lesion/docs/README\.md lacks the lines"):
        fill_bundle_pages(results, tables, bundles)
    assert text_of(bundles, "ixi_seg") == before
