"""A table with its numbers, and its text as Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from scripts.io.templates import fill_template

__all__ = [
    "EMPTY",
    "Cell",
    "Row",
    "Table",
    "markdown_table",
    "render_csv",
    "render_html",
    "render_latex",
    "render_markdown",
]

EMPTY = "\N{EN DASH}"
"""Stands where there is no number."""

_NOTHING = "No finished run gives this table."
_LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    EMPTY: "--",
    "<": r"$<$",
    ">": r"$>$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    **{letter: f"\\{letter}" for letter in "%_&#${}"},
}


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes:
        text: what is read.
        rank: 1 bold (best, or clear), 2 underlined (second best), 0 neither.
        note: more about it, which only HTML shows.
    """

    text: str = EMPTY
    rank: int = 0
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A row; without cells it is the heading of those below it, and ``kind`` their class in HTML."""

    label: str
    cells: tuple[Cell, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files.
        title: a few words.
        caption: what is in it, of whom, and how to read it.
        frame: its numbers, tidy, unrounded.
        columns: headings of the columns, that of the labels first; empty where there is nothing to show.
        groups: (heading, number of columns) over the columns but the first; empty for none.
        rows: what is shown.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[str, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    rows: tuple[Row, ...] = ()


def render_markdown(table: Table) -> str:
    """Return the table as Markdown: best bold, second underlined; the groups of columns go into their headings."""
    if not table.columns:
        return _NOTHING
    width = len(table.columns) - 1
    over = list(chain.from_iterable([name] * count for name, count in table.groups)) or [""] * width
    heads = [f"{group} {name}".strip() for group, name in zip(over, table.columns[1:], strict=True)]
    rows = []
    for row in table.rows:
        cells = [_marked(cell, "**{}**", "<u>{}</u>") for cell in row.cells]
        rows.append([row.label, *cells] if cells else [f"**{row.label}**", *[""] * width])
    return markdown_table([table.columns[0], *heads], rows)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table of texts.

    Args:
        head: texts above the columns.
        rows: a text per column.
    """
    cells = [[text.replace("|", r"\|") for text in row] for row in (head, *rows)]
    frame = pd.DataFrame(cells[1:], columns=cells[0])
    return str(frame.to_markdown(index=False, disable_numparse=True))


def render_latex(table: Table) -> str:
    r"""Return the table in LaTeX, for the packages booktabs and graphicx (which fits it to the width of the text)."""
    # of our own: pandas' Styler has no headings across a table, no rules below groups, and leaves < and ± as they are
    if not table.columns:
        return f"% {_NOTHING}\n"
    width = len(table.columns)
    title = re.sub(r"^Table \d+[^:]*: ", "", table.title)  # LaTeX numbers tables itself
    caption = _latex(f"{title[:1].upper()}{title[1:]}. {table.caption}")
    lines = [r"\begin{table}", r"\centering", r"\setlength{\belowcaptionskip}{\abovecaptionskip}"]
    lines += [rf"\caption{{{caption}}}"]
    lines += [rf"\label{{tab:{table.name}}}", r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    lines += [rf"\begin{{tabular}}{{l{'c' * (width - 1)}}}", r"\toprule"]
    if table.groups:
        spans = [rf"\multicolumn{{{count}}}{{c}}{{{_latex(name)}}}" for name, count in table.groups]
        lines += [" & ".join(["", *spans]) + r" \\", " ".join(_rules(table.groups))]
    lines += [" & ".join(_latex(name) for name in table.columns) + r" \\", r"\midrule"]
    for place, row in enumerate(table.rows):
        if not row.cells:
            lines += [r"\midrule"] if place else []
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{_latex(row.label)}}}}} \\")
            continue
        cells = [_marked(Cell(_latex(c.text), c.rank), r"\textbf{{{}}}", r"\underline{{{}}}") for c in row.cells]
        lines.append(" & ".join([_latex(row.label), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}}", r"\end{table}", ""])


def render_html(table: Table) -> str:
    """Return the table as HTML; ``best`` and ``second`` are classes in its cells, whose notes are their titles."""
    if not table.columns:
        return f"<p>{_NOTHING}</p>"
    template = Path(__file__).with_name("table.html.jinja")
    return fill_template(template, table=table, sections=list(_sections(table))).strip()


def render_csv(table: Table) -> str:
    """Return the numbers as CSV, unrounded."""
    return str(table.frame.to_csv(index=False))


def _sections(table: Table) -> Iterator[tuple[Row | None, list[Row]]]:
    heading, rows = None, list[Row]()
    for row in table.rows:
        if row.cells:
            rows.append(row)
            continue
        if heading or rows:
            yield heading, rows
        heading, rows = row, []
    yield heading, rows


def _marked(cell: Cell, best: str, second: str) -> str:
    return {1: best, 2: second}.get(cell.rank, "{}").format(cell.text)


def _rules(groups: tuple[tuple[str, int], ...]) -> Iterator[str]:
    start = 2
    for _, count in groups:
        yield rf"\cmidrule(lr){{{start}-{start + count - 1}}}"
        start += count


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
