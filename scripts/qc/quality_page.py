"""The quality page: a summary of the dataset and one row a subject, in one HTML file that opens from disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from markupsafe import Markup

from scripts.io.files import atomic_write
from scripts.io.templates import fill_template
from scripts.qc.numbers import ENOUGH, OUTLYING
from scripts.qc.outliers import Judged, judge, number
from scripts.qc.rows import FOLDER, Row, read_rows
from scripts.tasks import DatasetKind

__all__ = ["write_page"]

_BESIDE = Path(__file__).parent
_TITLES = {"ixi": "IXI: heads with tissue maps", "arc": "ARC: heads with lesion masks", "qmri": "Quantitative maps"}
_EMBEDDED = "cohort.json"
_OUTLINES = {
    "ixi": (("white", "white matter"), ("grey", "grey matter"), ("CSF", "fluid")),
    "arc": (("lesion", "lesion"), ("edges", "edges of T2w, on the images brought to it")),
    "qmri": (("brain", "brain"), ("white", "white matter"), ("lesion", "lesion")),
}
_ABOUT = {
    "ixi": "Volumes are sums of the tissue maps; medians are over voxels of one tissue to nine tenths. Fluid is dark "
    "in T1, as bright as grey matter or a little brighter in PD, and several times as bright as white matter in T2. "
    "The last strip shows the outlines of T1 on T2: where they miss, the two are not in one place.",
    "arc": "Slices go through the lesion. All images are shown in the world of T2w, on which the lesion was drawn: "
    "where the edges of T2w miss those of another image, it was not registered. Medians are in the image's own units.",
    "qmri": "Every map has one window, so that subjects compare. Slices go through the lesion where there is one. "
    "Tissues are those of the segmentation, where there is none those of R1 parted in three; without the lesion.",
}


@dataclass(frozen=True)
class _Number:
    """A number on the page: its place among all measures, its value and text, and why it stands out, if it does."""

    place: int
    value: str
    text: str
    title: str = ""


@dataclass(frozen=True)
class _ShownRow:
    """A row on the page: numbers named ``line: column`` are in ``lines``, those that stand by themselves ``single``."""

    name: str
    group: str
    size: tuple[int, int]
    notes: list[str]
    n_outlying: int
    single: dict[str, _Number] = field(default_factory=dict)
    lines: dict[str, dict[str, _Number]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)


def write_page(root: Path, kind: DatasetKind, *, left_out: Mapping[str, str] | None = None) -> Path:
    """Return ``root/qc/index.html``, made of all rows that are there and whose subject still is.

    Args:
        root: the dataset.
        kind: how it is laid out: ixi, arc or qmri.
        left_out: name -> reason of subjects and files that are not in it.
    """
    from scripts.qc.look import COLOURS, PIXEL

    rows = read_rows(root, kind)
    judged = judge(rows)
    images = list(dict.fromkeys(image for row in rows for image in row.images))
    text = fill_template(
        _BESIDE / "quality_page.html.jinja",
        title=f"Quality of {root.resolve().name}",
        dataset=_TITLES[kind],
        embedded=(root / _EMBEDDED).is_file(),
        images=images,
        counts=_counts(rows, images),
        outlying=OUTLYING,
        enough=ENOUGH,
        pixel=PIXEL,
        outlines=[(COLOURS[name], words) for name, words in _OUTLINES[kind]],
        about=_ABOUT[kind],
        left_out=left_out or {},
        groups=judged.groups,
        measures=judged.measures,
        medians=judged.medians,
        rows=[_shown(row, judged) for row in rows],
        css=Markup((_BESIDE / "quality_page.css").read_text(encoding="utf-8")),
        script=Markup((_BESIDE / "quality_page.js").read_text(encoding="utf-8")),
    )
    return atomic_write(root / FOLDER / "index.html", partial(Path.write_text, data=text, encoding="utf-8"))


def _counts(rows: Sequence[Row], images: Sequence[str]) -> list[list[str | int]]:
    """Return a line per group: its name, its rows, and how many have each image; with several, their sums last."""
    groups = Counter(row.group for row in rows)
    having = Counter((row.group, image) for row in rows for image in row.images)
    lines: list[list[str | int]] = [
        [group, n, *(having[group, image] for image in images)] for group, n in sorted(groups.items())
    ]
    if len(groups) > 1:
        lines.append(["all", len(rows), *(sum(having[group, image] for group in groups) for image in images)])
    return lines


def _shown(row: Row, judged: Judged) -> _ShownRow:
    shown = _ShownRow(row.name, row.group, row.size, row.notes, len(judged.outliers(row)))
    for name in row.measures:
        line, colon, column = name.partition(": ")
        if not colon:
            shown.single[name] = _number(row, name, judged)
            continue
        shown.lines.setdefault(line, {})[column] = _number(row, name, judged)
        if column not in shown.columns:
            shown.columns.append(column)
    return shown


def _number(row: Row, name: str, judged: Judged) -> _Number:
    value = row.measures[name]
    place, text = judged.measures.index(name), number(value)
    z = judged.outliers(row).get(name)
    if z is None:
        return _Number(place, f"{value:.6g}", text)
    title = f"robust z {z:.1f}; {row.group}: {judged.medians[row.group, name]}"
    return _Number(place, f"{value:.6g}", f"{'▲' if z > 0 else '▼'} {text}", title)
