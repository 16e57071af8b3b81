"""A table with its numbers, and its text as Markdown, LaTeX, HTML and CSV."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import chain

import pandas as pd

__all__ = ["Cell", "Row", "Table", "render_csv", "render_html", "render_latex", "render_markdown"]

EMPTY = "\N{EN DASH}"
_LATEX = {"±": r"$\pm$", EMPTY: "--", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "<": "$<$", ">": "$>$"}


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and its place in its row: 1 best, 2 second best, 0 neither."""

    text: str = EMPTY
    rank: int = 0


@dataclass(frozen=True)
class Row:
    """A row; without cells it is the heading of those below it."""

    label: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files.
        title: a few words.
        caption: what is in it, of whom, and how to read it.
        frame: its numbers, tidy, unrounded.
        groups: (heading, number of columns) over the columns; empty for none.
        columns: headings of the columns, that of the labels first.
        rows: what is shown.
    """

    name: str
    title: str
    caption: str
    frame: pd.DataFrame
    columns: tuple[str, ...] = ()
    groups: tuple[tuple[str, int], ...] = ()
    rows: tuple[Row, ...] = field(default=())


def render_markdown(table: Table) -> str:
    """Return the table as Markdown: best bold, second underlined; the groups of columns go into their headings."""
    over = list(chain.from_iterable([name] * count for name, count in table.groups)) or [""] * (len(table.columns) - 1)
    heads = [
        table.columns[0],
        *(f"{group} {name}".strip() for group, name in zip(over, table.columns[1:], strict=True)),
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---|" * (len(heads) - 1)]
    for row in table.rows:
        cells = [_marked(cell, "**{}**", "<u>{}</u>") for cell in row.cells]
        label = row.label if cells else f"**{row.label}**"
        lines.append("| " + " | ".join([label, *(cells or [""] * (len(heads) - 1))]) + " |")
    return "\n".join(lines)


def render_latex(table: Table) -> str:
    """Return the table in LaTeX, for the package booktabs."""
    width = len(table.columns)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(table.caption)}}}", rf"\label{{tab:{table.name}}}"]
    lines += [rf"\begin{{tabular}}{{l{'c' * (width - 1)}}}", r"\toprule"]
    if table.groups:
        spans = [rf"\multicolumn{{{count}}}{{c}}{{{_latex(name)}}}" for name, count in table.groups]
        lines.append(" & ".join(["", *spans]) + r" \\")
    lines += [" & ".join(_latex(name) for name in table.columns) + r" \\", r"\midrule"]
    for row in table.rows:
        if not row.cells:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\textbf{{{_latex(row.label)}}}}} \\")
            continue
        cells = [_marked(Cell(_latex(c.text), c.rank), r"\textbf{{{}}}", r"\underline{{{}}}") for c in row.cells]
        lines.append(" & ".join([_latex(row.label), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def render_html(table: Table) -> str:
    """Return the table as HTML; ``best`` and ``second`` are classes of its cells."""
    lines = ['<table class="numbers">', "<thead>"]
    if table.groups:
        spans = "".join(f'<th colspan="{count}" scope="colgroup">{escape(name)}</th>' for name, count in table.groups)
        lines.append(f"<tr><td></td>{spans}</tr>")
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.columns)
    lines += [f"<tr>{heads}</tr>", "</thead>", "<tbody>"]
    for row in table.rows:
        if not row.cells:
            lines.append(f'<tr class="section"><th colspan="{len(table.columns)}">{escape(row.label)}</th></tr>')
            continue
        cells = "".join(f"<td>{_marked(Cell(escape(c.text), c.rank), *_HTML)}</td>" for c in row.cells)
        lines.append(f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody>", "</table>"])


_HTML = ('<strong class="best">{}</strong>', '<u class="second">{}</u>')


def render_csv(table: Table) -> str:
    """Return the numbers as CSV, unrounded."""
    return str(table.frame.to_csv(index=False))


def _marked(cell: Cell, best: str, second: str) -> str:
    return {1: best, 2: second}.get(cell.rank, "{}").format(cell.text)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
