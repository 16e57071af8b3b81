"""The report's page: what it holds, that it needs nothing else, and that it works in a browser."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scripts.experiment.figures.all_figures import Figure as FigureFile
from scripts.experiment.pages.report_html import write_html
from scripts.experiment.results.collect import Results
from scripts.experiment.tables.all_tables import all_tables
from scripts.experiment.tables.text import Cell, Row, Table
from tests.experiment.browser import PATH, Browser
from tests.experiment.conftest import results_in

EVIL = '<script>alert(1)</script> & "so"'
VOID = {"meta", "link", "img", "input", "br", "hr"}


def table_of(name: str, title: str, caption: str) -> Table:
    """A table that is wider and longer than a screen."""
    rows = (Row(f"{name} row", (Cell("55.1 ± 0.8"),) * 20),) * 50
    return Table(name, title, caption, pd.DataFrame(), ("site", *(f"column {n}" for n in range(20))), rows=rows)


TABLES = [
    table_of("table1", "Brain tissue", f"Mean {EVIL}"),
    table_of("table3", "Denoising", "Mean and standard error."),
]


def figures_in(folder: Path) -> list[FigureFile]:
    made = []
    for name in ("curves", "tsne"):
        figure = Figure(figsize=(12, 3))
        figure.subplots().plot(np.arange(5))
        figure.savefig(folder / f"{name}.png")
        made.append(FigureFile(name, f"Picture of {name}", f"About {name} {EVIL}", folder / f"{name}.png"))
    return made


def page_in(folder: Path) -> Path:
    results = results_in(folder)
    cases = results.cases.replace({"subject": {"IXI000": f"IXI000 {EVIL}"}})
    planned = pd.concat([results.planned, results.planned.tail(1).assign(cell="left", seed=1)], ignore_index=True)
    changed = dataclasses.replace(results, cases=cases, planned=planned)
    notes = [f"Simulated {EVIL}"]
    return write_html(changed, TABLES, figures_in(folder), folder / "report", notes=notes)


@pytest.fixture
def figures(tmp_path: Path) -> list[FigureFile]:
    return figures_in(tmp_path)


@pytest.fixture(scope="session")
def page(shared: Callable[[str, Callable[[Path], Any]], Any]) -> Path:
    made: Path = shared("report_page", page_in)
    return made


class Reader(HTMLParser):
    """Collects references, ids, texts, and elements that are closed in another order than opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.references += [(tag, value) for key in ("src", "href", "action", "data") if (value := found.get(key))]
        if identity := found.get("id"):
            self.ids.append(identity)
        if tag == "img":
            self.images.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


def test_the_page_is_well_formed(page: Path) -> None:
    reader = Reader(page.read_text(encoding="utf-8"))
    assert reader.wrong == []
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)


def test_the_page_needs_nothing_else(page: Path, results: Results) -> None:
    text = page.read_text(encoding="utf-8")
    reader = Reader(text)
    outside = {(tag, where.split(":")[0]) for tag, where in reader.references if not where.startswith(("#", "data:"))}
    assert outside == {("a", "https")}  # where to read about the viewer
    anchors = {where[1:] for _, where in reader.references if where.startswith("#")}
    assert anchors == {"table1", "table3", "curves", "tsne", "viewer", "runs"}
    assert anchors <= set(reader.ids)
    assert not re.search(r"@import|url\((?!data:)", text[: text.index("</style>")])
    assert str(page.parents[1]) not in text  # where its volumes and figures lie
    assert results.uri not in text
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_the_page_is_small(page: Path) -> None:
    assert page.stat().st_size < 4_000_000  # the viewer is 2.3 MB


def test_everything_is_on_the_page(page: Path) -> None:
    reader = Reader(page.read_text(encoding="utf-8"))
    text = " ".join(" ".join(reader.texts).split())
    for part in (*TABLES, *("Picture of curves", "Picture of tsne")):
        assert (part if isinstance(part, str) else part.title) in text
    assert "table1 row" in text
    assert "table3 row" in text
    assert [image["alt"] for image in reader.images] == ["Picture of curves", "Picture of tsne"]
    assert all(str(image["src"]).startswith("data:image/png;base64,iVBOR") for image in reader.images)
    for words in (
        "Grid mini",
        "embedded cohorts: simulated, not measured",
        "65 of 66 planned are finished",
        "2026-11-01",
        "0123456789ab",
        "x86_64, 2 cores, no GPU",
        f"{7:032x}",
        "not finished",
    ):
        assert words in text


def test_words_from_elsewhere_are_text(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;so&#34;") >= 4  # caption, captions, note
    assert Reader(text).tags.count("script") == 3


def test_no_name_in_the_data_becomes_markup(
    results: Results, tables: list[Table], figures: list[FigureFile], tmp_path: Path
) -> None:
    def evil(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
        names = {
            "variant": "seqinv-no_l1",
            "site": "HH",
            "modality": "T2w",
            "subject": "IXI000",
            "commit": "0123456789ab",
        }
        return frame.replace({column: {names[column]: f"{names[column]}{EVIL}<img src=x>"} for column in columns})

    odd = dataclasses.replace(
        results,
        grid=f"mini{EVIL}",
        runs=evil(results.runs, "variant", "modality", "commit"),
        scores=evil(results.scores, "site", "modality"),
        invariance=evil(results.invariance, "variant"),
        cases=evil(results.cases, "subject", "modality"),
        planned=evil(results.planned, "variant", "modality"),
        facts={**results.facts, "hardware": EVIL, "description": EVIL},
    )
    odd_tables = all_tables(odd)
    named = [dataclasses.replace(figure, title=f"{figure.title} {EVIL}") for figure in figures]
    text = write_html(odd, odd_tables, named, tmp_path / "odd").read_text(encoding="utf-8")
    reader, plain = Reader(text), Reader(write_html(results, tables, figures, tmp_path).read_text())
    assert "<script>alert(1)" not in text
    assert set(reader.tags) == set(plain.tags)
    assert reader.tags.count("script") == 3
    assert len(reader.images) == len(figures)
    assert sum(EVIL in words for words in reader.texts) > len(results.planned) / 4


def test_a_grid_with_nothing_has_a_page(tmp_path: Path) -> None:
    nothing = Results("none", "sqlite:///x.db", *[pd.DataFrame()] * 6)
    text = write_html(nothing, [], [], tmp_path).read_text()
    for words in ("0 of 0 planned are finished", "No table could", "No figure could", "left no volumes"):
        assert words in text
    assert Reader(text).tags.count("script") == 0
    assert len(text) < 20_000


def test_lost_volumes_are_named(results: Results, tmp_path: Path) -> None:
    words = "Cases left out, as their volumes cannot be read"
    assert words not in write_html(results, [], [], tmp_path / "all").read_text()
    row = results.cases.query("task == 'ixi_seg' and variant == 'seqinv' and rank == 'median'").iloc[0]
    Path(row["truth"]).unlink()
    text = write_html(results, [], [], tmp_path / "rest").read_text()
    assert f"{words}: 1." in text
    assert str(tmp_path) not in text


_ACTS = Path(__file__).with_name("html_acts.js").read_text()


def acted(page: Path, browser: Browser, size: tuple[int, int]) -> dict[str, Any]:
    """Work the viewer of the page in a window of a size, and return what was seen."""
    opened = browser.page(page.as_uri(), size=size, before=_ACTS)
    told: dict[str, Any] = opened.ask("acted")
    opened.close()
    return told


def test_the_viewer_works_in_a_browser(page: Path, browser: Browser) -> None:
    told = acted(page, browser, (1300, 900))
    assert told["errors"] == []
    assert set(told["resources"]) <= {"file", "data", "blob"}
    assert told["size"][0] <= told["size"][1]
    assert told["first"] == ["Brain tissue (IXI)", "Stroke lesion (ARC)", "Denoising (IXI)"]
    assert told["listed"][0] == "median, SeqInv (DSC 0.600)"
    assert told["mean"] > 20
    assert told["hidden"] > 0.05
    assert told["truth"] > 0.05
    assert told["black"] < 1
    assert told["differ"] > 100
    # shells of radii 0.8, 0.6 and 0.3: their discs' areas are as the squares, which also tells which label is which
    areas = told["areas"]
    assert areas["CSF"] / sum(areas.values()) == pytest.approx(0.09 / 0.64, abs=0.04)
    assert areas["white matter"] / sum(areas.values()) == pytest.approx(0.27 / 0.64, abs=0.06)
    assert "the worst case by DSC, subject IXI002 of Guys" in told["about"]
    assert told["rough"]["noisy"] > 1.1 * told["rough"]["denoised"] > 1.2 * told["rough"]["clean"]
    assert re.fullmatch(r"3[012], 3[012], 3[012] mm: image \d\.\d\d, truth CSF, prediction CSF", told["placed"])
    assert re.fullmatch(r"3[012], 3[012], 3[012] mm: denoised \d\.\d\d", told["place"])


def test_a_narrow_page_does_not_overflow(page: Path, browser: Browser) -> None:
    told = acted(page, browser, (400, 900))
    assert told["errors"] == []
    assert told["size"][0] <= told["size"][1] == 400
    assert told["tables"][:2] == [True, True]  # they scroll by themselves


@pytest.mark.skipif(PATH is None, reason="needs chromium to open the page")
def test_a_page_without_webgl_says_so(page: Path, tmp_path: Path) -> None:
    with Browser(tmp_path / "profile", "--disable-3d-apis") as without:
        opened = without.page(page.as_uri(), size=(1300, 900))
        text = opened.text("This browser shows no WebGL 2", "table1 row")
        assert "This browser shows no WebGL 2" in text
        assert "table1 row" in text
        assert opened.ask('document.getElementById("viewer-tools").hidden')
