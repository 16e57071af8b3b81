"""The quality page: what it says, and that it works from disk in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from scripts.qc import write_page, write_row

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
EVIL = '<script>alert(1)</script> & "so"'


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven heads of a site, one with a note and one three times as bright in T1; one of another site."""
    root = tmp_path_factory.mktemp("page") / "heads"
    root.mkdir()
    place = np.indices((30, 30, 30)) * 6.0 - 87.0
    radius = np.sqrt(np.square(place).sum(0))
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = -87.0
    for n in range(8):
        name = f"IXI00{n}-{'Guys' if n < 7 else 'HH'}-070{n}"
        white, grey, fluid = radius < 40 + n, (radius >= 40 + n) & (radius < 55), (radius >= 55) & (radius < 62)
        for kind, values in {"T1": (600, 800, 200), "T2": (500, 400, 1600), "PD": (560, 500, 680)}.items():
            bright = 3.0 if n == 4 and kind == "T1" else 1 + 0.01 * n
            image = sum(value * part for value, part in zip(values, (grey, white, fluid), strict=True)) * bright
            nib.save(nib.Nifti1Image(np.float32(image), affine), root / f"{name}-{kind}.nii.gz")
            for tissue, part in enumerate((grey, white, fluid), start=1):
                nib.save(nib.Nifti1Image(part.astype(np.uint8), affine), root / f"c{tissue}{name}-{kind}.nii.gz")
        write_row(root, "ixi", name, notes=[EVIL] if n == 2 else [], measures={"turned [deg]": float(n)})
    write_page(root, "ixi", left_out={"IXI009-Guys-0709": f"is damaged {EVIL}"})
    return root


class Reader(HTMLParser):
    """Collects what a page refers to and its elements' text."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.outliers: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.references += [value for key in ("src", "href", "action", "data") if (value := found.get(key))]
        self._inside = tag in ("td", "b") and found.get("class") == "out"

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())
        if self._inside:
            self.outliers.append(data)
            self._inside = False


@pytest.fixture(scope="module")
def reader(dataset: Path) -> Reader:
    found = Reader()
    found.feed((dataset / "qc" / "index.html").read_text())
    return found


def test_the_page_refers_to_its_pictures_alone(dataset: Path, reader: Reader) -> None:
    beside = {reference for reference in reader.references if not reference.startswith(("#", "data:"))}
    assert beside == {path.name for path in (dataset / "qc").glob("*.jpg")}
    assert len(beside) == 8
    text = (dataset / "qc" / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)


def test_what_notes_say_is_text(dataset: Path, reader: Reader) -> None:
    assert reader.tags.count("script") == 1
    text = (dataset / "qc" / "index.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;so&#34;" in text


def test_no_name_in_a_dataset_becomes_markup(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "<i>heads & more"))
    path = root / "qc" / "IXI002-Guys-0702.json"
    row = json.loads(path.read_text())
    names = {"group": EVIL, "images": [EVIL], "measures": {EVIL: 1.0, f"line {EVIL}: {EVIL}": 2.0}, "notes": [EVIL]}
    path.write_text(json.dumps({**row, **names}))
    text = write_page(root, "ixi", left_out={EVIL: EVIL}).read_text()
    reader = Reader()
    reader.feed(text)
    assert "<script>alert(1)" not in text
    assert reader.tags.count("script") == 1
    assert "i" not in reader.tags
    assert reader.words.count(EVIL) >= 8


def test_the_bright_head_is_marked(dataset: Path, reader: Reader) -> None:
    assert reader.outliers == ["▲ 1800", "▲ 2400", "▲ 600"]
    text = (dataset / "qc" / "index.html").read_text()
    assert "8 rows, 1 with outlying numbers, 1 with notes" in text
    assert "taken as real data" in text
    assert "Left out: 1" in text


def test_a_dataset_without_subjects_has_a_page(tmp_path: Path) -> None:
    text = write_page(tmp_path / "none", "arc", left_out={f"sub-{n}": "bad" for n in range(30)}).read_text()
    assert "No subject yet." in text
    assert "Left out: 30" in text


def test_an_embedded_dataset_says_so(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "copy"))
    (root / "cohort.json").write_text("{}")
    assert "embedded cohort: simulated, not measured" in write_page(root, "ixi").read_text()


@pytest.mark.skipif(BROWSER is None, reason="needs chromium to open the page")
def test_the_page_works_in_a_browser(dataset: Path, tmp_path: Path) -> None:
    told = _act(dataset, tmp_path)
    assert told["loaded"] == [True] * 8
    assert {reference.split(":")[0] for reference in told["resources"]} == {"file"}
    guys = [f"IXI00{n}-Guys-070{n}" for n in range(7)]
    other = "IXI007-HH-0707"
    assert told["all"] == [*guys, other]
    assert told["words"] == [guys[4]]
    assert told["none"] == []
    assert told["group"] == [other]
    assert told["marked"] == [guys[2], guys[4]]
    assert told["outliers"][0] == guys[4]
    assert told["turned"] == [other, *reversed(guys)]
    assert told["upwards"] == [*guys, other]
    assert told["count"] == "1 of 8 shown"
    assert told["dialog"] == [guys[0], guys[1], other, False]


# The browser tells what it has once the page is loaded, so that all is done by then and nothing waits: pictures that
# are not lazy hold the load up.
_ACTS = """
document.querySelectorAll(".row img").forEach((image) => { image.loading = "eager"; });
addEventListener("load", () => {
  const tools = document.forms.tools, told = {}, dialog = document.querySelector("dialog");
  const shown = () => [...document.querySelectorAll(".row:not([hidden])")].map((row) => row.id);
  const set = (values) => {
    tools.reset();
    for (const [name, value] of Object.entries(values)) tools[name][value === true ? "checked" : "value"] = value;
    tools.dispatchEvent(new Event("input"));
    return shown();
  };
  const images = [...document.querySelectorAll(".row img")];
  told.loaded = images.map((image) => image.complete && image.naturalWidth > 300);
  told.all = shown();
  told.words = set({words: "0704 guys"});
  told.count = tools.querySelector("output").textContent;
  told.none = set({words: "nobody"});
  told.group = set({group: "HH"});
  told.marked = set({marked: true});
  told.outliers = set({sort: "outliers"});
  const key = [...tools.sort.options].find((option) => option.text === "turned [deg]").value;
  told.turned = set({sort: key});
  told.upwards = set({sort: key, order: "up"});
  set({});
  document.querySelector(".picture").click();
  const name = () => dialog.querySelector("span").textContent;
  told.dialog = [name()];
  dialog.querySelector("[data-act=next]").click();
  told.dialog.push(name());
  dialog.querySelector("[data-act=before]").click();
  dialog.querySelector("[data-act=before]").click();
  told.dialog.push(name());
  dialog.querySelector("[data-act=close]").click();
  told.dialog.push(dialog.open);
  told.resources = performance.getEntriesByType("resource").map((entry) => entry.name).concat(location.href);
  document.body.innerHTML = "<pre id=told></pre>";
  document.getElementById("told").textContent = JSON.stringify(told);
});
"""


def _act(dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """Open a copy of the page from disk, work its controls, and return what was seen."""
    assert BROWSER is not None
    folder = Path(shutil.copytree(dataset / "qc", tmp_path / "qc"))
    page = folder / "index.html"
    page.write_text(page.read_text().replace("</body>", f"<script>{_ACTS}</script></body>"))
    done = subprocess.run(
        [
            *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:]
    told: dict[str, Any] = json.loads(found[1])
    return told
