"""The quality page: a summary of the dataset and one row a subject, in one HTML file that opens from disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from scripts.io.write import write_text
from scripts.qc.judge import Judged, judge, number
from scripts.qc.rows import FOLDER, Layout, Row, read_rows

__all__ = ["write_page"]

_TITLES = {"ixi": "IXI: heads with tissue maps", "arc": "ARC: heads with lesion masks", "qmri": "Quantitative maps"}
_EMBEDDED = "cohort.json"
_SHOWN = 8  # reasons that are not folded away
_DRAWN = {
    "ixi": (("white", "white matter"), ("grey", "grey matter"), ("CSF", "fluid")),
    "arc": (("lesion", "lesion"), ("edges", "edges of T2w, on the images brought to it")),
    "qmri": (("brain", "brain"), ("white", "white matter"), ("lesion", "lesion")),
}
_TOLD = {
    "ixi": "Volumes are sums of the tissue maps; medians are over voxels of one tissue to nine tenths. Fluid is dark "
    "in T1, as bright as grey matter or a little brighter in PD, and several times as bright as white matter in T2. "
    "The last strip shows the outlines of T1 on T2: where they miss, the two are not in one place.",
    "arc": "Slices go through the lesion. All images are shown in the world of T2w, on which the lesion was drawn: "
    "where the edges of T2w miss those of another image, it was not registered. Medians are in the image's own units.",
    "qmri": "Every map has one window, so that subjects compare. Slices go through the lesion where there is one. "
    "Tissues are those of the segmentation, where there is none those of R1 parted in three; without the lesion.",
}


def write_page(root: Path, layout: Layout, *, left_out: Mapping[str, str] | None = None) -> Path:
    """Return ``root/qc/index.html``, made of all rows that are there and whose subject still is.

    Args:
        root: the dataset.
        layout: how it is laid out: ixi, arc or qmri.
        left_out: name -> reason of subjects and files that are not in it.
    """
    rows = read_rows(root, layout)
    judged = judge(rows)
    page = root / FOLDER / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        _head(root, layout),
        _summary(layout, rows, judged),
        _reasons(left_out or {}),
        _medians(judged),
        _tools(rows, judged),
        f'<main id="rows">{"".join(_row(row, judged) for row in rows)}</main>',
        "" if rows else "<p>No subject yet.</p>",
        _DIALOG,
        f"<script>\n{_beside('page.js')}</script>\n</body>\n</html>\n",
    ]
    write_text(page, "\n".join(parts))
    return page


_DIALOG = (
    '<dialog aria-label="Picture"><header><span></span><button data-act="before">Before</button>'
    '<button data-act="next">Next</button><button data-act="close">Close</button></header>'
    '<img alt=""></dialog>'
)


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _head(root: Path, layout: Layout) -> str:
    embedded = (root / _EMBEDDED).is_file()
    kind = "embedded cohort: simulated, not measured" if embedded else "taken as real data"
    title = f"Quality of {root.resolve().name}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>\n{_beside("page.css")}</style>\n'
        f"</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p><span class="badge">{escape(_TITLES[layout])}</span>'
        f'<span class="badge{" note" if embedded else ""}">{kind}</span></p>'
    )


def _summary(layout: Layout, rows: Sequence[Row], judged: Judged) -> str:
    from scripts.qc.look import COLOURS

    groups = Counter(row.group for row in rows)
    images = list(dict.fromkeys(image for row in rows for image in row.images))
    counted = Counter((row.group, image) for row in rows for image in row.images)
    lines = [[group, n, *(counted[group, image] for image in images)] for group, n in sorted(groups.items())]
    if len(groups) > 1:
        lines.append(["all", len(rows), *(sum(counted[group, image] for group in groups) for image in images)])
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in line)}</tr>" for line in lines)
    header = "".join(f"<th>{escape(name)}</th>" for name in ("group", "rows", *images))
    keys = "".join(
        f'<span class="key" style="background:{COLOURS[name]}"></span>{what}' for name, what in _DRAWN[layout]
    )
    n_out = sum(1 for row in rows if judged.outliers(row))
    n_notes = sum(1 for row in rows if row.notes)
    return (
        f'<div class="wide"><table><tr>{header}</tr>{body}</table></div>'
        f"<p>{len(rows)} rows, {n_out} with outlying numbers, {n_notes} with notes. A number is marked where it lies "
        "more than 3.5 robust deviations (1.4826 MAD) from the median of its group, of a lesion's volume by its "
        "logarithm; groups of fewer than 5 are not judged.</p>"
        "<p>Axial, coronal and sagittal, seen as in radiology: the patient's right is on the left (R), of the sagittal "
        f"slice the front (A). Pixels are square, 0.75 mm.</p><p>Outlines:{keys}</p>"
        f'<p class="soft">{escape(_TOLD[layout])}</p>'
    )


def _reasons(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return ""
    body = "".join(f"<tr><td>{escape(name)}</td><td>{escape(why)}</td></tr>" for name, why in left_out.items())
    table = f'<div class="wide"><table class="reasons"><tr><th>name</th><th>reason</th></tr>{body}</table></div>'
    is_open = " open" if len(left_out) <= _SHOWN else ""
    return f'<details id="left-out"{is_open}><summary>Left out: {len(left_out)}</summary>{table}</details>'


def _medians(judged: Judged) -> str:
    if not judged.measures:
        return ""
    header = "".join(f"<th>{escape(group)}</th>" for group in judged.groups)
    lines = []
    for name in judged.measures:
        cells = (judged.told.get((group, name)) for group in judged.groups)
        body = "".join(f"<td>{escape(cell or '')}</td>" for cell in cells)
        lines.append(f"<tr><td>{escape(name)}</td>{body}</tr>")
    return (
        "<details><summary>Median ± robust deviation of each number</summary>"
        f'<div class="wide"><table><tr><th>number</th>{header}</tr>{"".join(lines)}</table></div></details>'
    )


def _tools(rows: Sequence[Row], judged: Judged) -> str:
    groups = "".join(f"<option>{escape(group)}</option>" for group in sorted({row.group for row in rows}))
    measures = "".join(
        f'<option value="{number_of}">{escape(name)}</option>' for number_of, name in enumerate(judged.measures)
    )
    return (
        '<form class="tools" name="tools" hidden>'
        '<input type="search" name="words" placeholder="Name or note" aria-label="Name or note" autocomplete="off">'
        f'<label>Group <select name="group"><option value="">all</option>{groups}</select></label>'
        '<label>Sort by <select name="sort"><option value="name">name</option>'
        f'<option value="outliers">outlying numbers</option>{measures}</select></label>'
        '<select name="order" aria-label="Order"><option value="down">largest first</option>'
        '<option value="up">smallest first</option></select>'
        '<label><input type="checkbox" name="marked"> only outliers and notes</label><output></output></form>'
    )


def _row(row: Row, judged: Judged) -> str:
    name, n_out = escape(row.name), len(judged.outliers(row))
    text = escape(" ".join([row.name, row.group, *row.notes]).lower())
    badges = [f'<span class="badge">{escape(row.group)}</span>']
    badges += [f'<span class="badge out">{n_out} outlying</span>'] if n_out else []
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in row.notes)
    return (
        f'<article class="row" id="{name}" data-group="{escape(row.group)}" data-out="{n_out}" '
        f'data-marked="{int(bool(n_out or row.notes))}" data-text="{text}">'
        f'<a class="picture" href="{name}.jpg"><img loading="lazy" src="{name}.jpg" width="{row.size[0]}" '
        f'height="{row.size[1]}" alt="Slices of {name}"></a><div class="facts"><h2><a href="#{name}">{name}</a></h2>'
        f"<div>{''.join(badges)}</div>{notes}{_singles(row, judged)}{_numbers(row, judged)}</div></article>\n"
    )


def _singles(row: Row, judged: Judged) -> str:
    """Return the numbers that stand by themselves."""
    names = [name for name in row.measures if ": " not in name]
    told = [f"<span>{escape(name)} {_cell(row, name, judged, tag='b')}</span>" for name in names]
    return f'<div class="single">{"".join(told)}</div>' if told else ""


def _numbers(row: Row, judged: Judged) -> str:
    """Return the numbers named ``line: column`` as a table."""
    split = [name.split(": ", 1) for name in row.measures if ": " in name]
    if not split:
        return ""
    lines, columns = list(dict.fromkeys(a for a, _ in split)), list(dict.fromkeys(b for _, b in split))
    header = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for line in lines:
        names = [f"{line}: {column}" for column in columns]
        cells = (_cell(row, name, judged) if name in row.measures else "<td></td>" for name in names)
        body.append(f"<tr><td>{escape(line)}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table class="numbers"><tr><th></th>{header}</tr>{"".join(body)}</table></div>'


def _cell(row: Row, name: str, judged: Judged, tag: str = "td") -> str:
    value = row.measures[name]
    data = f'data-k="{judged.measures.index(name)}" data-v="{value:.6g}"'
    z = judged.outliers(row).get(name)
    if z is None:
        return f"<{tag} {data}>{number(value)}</{tag}>"
    told = escape(f"robust z {z:.1f}; {row.group}: {judged.told[row.group, name]}")
    return f'<{tag} {data} class="out" title="{told}">{"▲" if z > 0 else "▼"} {number(value)}</{tag}>'
