"""A table as the report shows it, and its two files: CSV, and LaTeX with booktabs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mgmt_ray.statistics.intervals import read_interval

DASH = "–"
LONGTABLE_ROWS = 40
"""Rows from which a LaTeX table may break over pages."""

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        # at the start of a row they would be an argument of the row before
        "[": "{[}",
        "]": "{]}",
        "*": "{*}",
        "\n": " ",
        "\u00a0": "~",
        "–": "--",
        "−": "$-$",
        "×": r"$\times$",
        "±": r"$\pm$",
        "·": r"$\cdot$",
        "²": "$^2$",
        "χ": r"$\chi$",
        "τ": r"$\tau$",
        "Δ": r"$\Delta$",
        "≥": r"$\geq$",
        "°": r"$^\circ$",
        "’": "'",
    }
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells; the first cell of a row names it.

    Attributes:
        name: of its files, unique in a report: letters, digits, ``_`` and ``-``.
        caption: what is in it.
        header: as many cells as each row has.
        rows: of text; a line break in a cell is shown.
        is_wide: with sentences in its cells, which are to be broken.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_wide: bool = False

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), f"{self.name}: ragged rows"


def drop_empty_paper_columns(table: Table) -> Table:
    """The table without columns of a paper ("paper's ...") in which nothing is printed."""
    kept = [
        i
        for i, name in enumerate(table.header)
        if not name.startswith("paper's") or any(row[i] != DASH for row in table.rows)
    ]
    header = tuple(table.header[i] for i in kept)
    rows = tuple(tuple(row[i] for i in kept) for row in table.rows)
    return replace(table, header=header, rows=rows)


def table_csv(table: Table) -> str:
    """The table as CSV; a line break in a cell becomes a space."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (table.header, *table.rows):
        writer.writerow([cell.replace("\n", " ") for cell in row])
    return text.getvalue()


def table_latex(table: Table) -> str:
    """For LaTeX's packages booktabs and (from :data:`LONGTABLE_ROWS` rows on) longtable."""
    width = f"p{{{0.9 / len(table.header):.3f}\\linewidth}}"
    columns = (width if table.is_wide else "l") * len(table.header)
    head = rf"{_latex_row(table.header)}"
    body = "\n".join(_latex_row(row) for row in table.rows)
    caption = rf"\caption{{{latex(table.caption)}}}\label{{tab:{table.name}}}"
    if len(table.rows) >= LONGTABLE_ROWS:
        return (
            f"% needs \\usepackage{{booktabs}} and \\usepackage{{longtable}}\n"
            f"\\begin{{longtable}}{{{columns}}}\n{caption}\\\\\n\\toprule\n{head}\n\\midrule\n"
            f"\\endhead\n{body}\n\\bottomrule\n\\end{{longtable}}\n"
        )
    return (
        f"% needs \\usepackage{{booktabs}}\n\\begin{{table}}\n\\centering\n{caption}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head}\n\\midrule\n{body}\n\\bottomrule\n"
        "\\end{tabular}\n\\end{table}\n"
    )


def latex(text: str) -> str:
    """Text with what LaTeX would take for a command escaped."""
    return text.translate(_LATEX)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(latex(cell) for cell in cells) + r" \\"


def p_value(p: float | None) -> str:
    """A p-value of three digits for a cell; a dash where there is none."""
    if p is None or math.isnan(p):
        return DASH
    return "< 0.0001" if p < 0.0001 else f"{p:.3g}" if p < 0.1 else f"{p:.3f}"


def number(value: float | None, digits: int = 3) -> str:
    """A number of so many decimals for a cell; a dash where there is none."""
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_interval(row: Mapping[Hashable, Any], metric: str) -> str:
    """A value with its interval below it for a cell; a dash where it is not defined."""
    interval = read_interval(row, metric)
    if math.isnan(interval.value):
        return DASH
    if math.isnan(interval.low):
        return number(interval.value)
    # two lines, so that many columns fit on a page
    return str(interval).replace(" [", "\n[")


def slug(text: str) -> str:
    """A name in lower-case letters, digits, ``_`` and ``-``, for a file or an anchor."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "_" for c in text.lower())
    return kept.strip("_") or "_"
