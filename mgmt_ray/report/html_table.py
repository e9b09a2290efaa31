"""Tables of text cells: how the report shows numbers in them, and writes them as CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from mgmt_ray.statistics.intervals import read_interval

DASH = "–"
LONGTABLE_ROWS = 40
"""Number of rows from which on a LaTeX table may break over pages."""

_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "{}&%$#_"},
        # at the start of a row they would be an argument of the row before
        **{c: f"{{{c}}}" for c in "[]*"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
        **{'"': r"\textquotedbl{}", "’": "'", "\n": " ", "\u00a0": "~", "–": "--", "−": "$-$"},
        **{"×": r"$\times$", "±": r"$\pm$", "·": r"$\cdot$", "²": "$^2$", "χ": r"$\chi$"},
        **{"τ": r"$\tau$", "Δ": r"$\Delta$", "≥": r"$\geq$", "°": r"$^\circ$"},
    }
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text cells; the first cell of a row is its heading.

    Attributes:
        name: file name without suffix, unique in a report: letters, digits, ``_`` and ``-``.
        header: as many cells as each row has.
        rows: a line break in a cell is shown as one.
        is_wide: whether cells hold sentences, which are to be wrapped.
        links: addresses in the page by row heading.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_wide: bool = False
    links: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.header) for row in self.rows), f"{self.name}: ragged rows"


def beside_paper(table: Table, is_of_paper: bool, place: str = "") -> Table:
    """Return the table without those columns headed "paper's ..." that say nothing of the study.

    Args:
        is_of_paper: whether the paper's results are of the same patients; if not, no such column
            stays, else those that do not hold only dashes.
        place: of these columns in the paper, which the caption then names.

    >>> table = Table("t", "Results", ("Model", "paper's AUC"), (("Transfer", "0.53"),))
    >>> beside_paper(table, False, "table 4").header, beside_paper(table, True, "table 4").caption
    (('Model',), 'Results, next to table 4 of the paper')
    """
    is_paper = [name.startswith("paper's") for name in table.header]
    kept = [
        i
        for i in range(len(table.header))
        if not is_paper[i] or (is_of_paper and any(row[i] != DASH for row in table.rows))
    ]
    has_paper = bool(place) and any(is_paper[i] for i in kept)
    return replace(
        table,
        caption=f"{table.caption}, next to {place} of the paper" if has_paper else table.caption,
        header=tuple(table.header[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
    )


def table_csv(table: Table) -> str:
    """Return the table as CSV; a line break in a cell becomes a space.

    >>> print(table_csv(Table("t", "caption", ("Model", "AUC"), (("Transfer", "0.61"),))), end="")
    Model,AUC
    Transfer,0.61
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in (table.header, *table.rows):
        writer.writerow([cell.replace("\n", " ") for cell in row])
    return text.getvalue()


def table_latex(table: Table) -> str:
    """Return the table as LaTeX for booktabs, from :data:`LONGTABLE_ROWS` rows on longtable."""
    width = f"p{{{0.9 / len(table.header):.3f}\\linewidth}}"
    is_long = len(table.rows) >= LONGTABLE_ROWS
    frame = pd.DataFrame([*map(_latex_row, table.rows)], columns=_latex_row(table.header))
    text = frame.to_latex(
        index=False,
        column_format=(width if table.is_wide else "l") * len(table.header),
        caption=latex(table.caption),
        label=f"tab:{table.name}",
        longtable=is_long,
    )
    packages = r"\usepackage{booktabs}" + r" and \usepackage{longtable}" * is_long
    return f"% needs {packages}\n{text}"


def latex(text: str) -> str:
    r"""Escape the characters that LaTeX treats as commands.

    >>> print(latex("50 % of A_1"))
    50 \% of A\_1
    """
    return text.translate(_LATEX)


def _latex_row(cells: Sequence[str]) -> list[str]:
    return [latex(cell) for cell in cells]


def p_value(p: float | None) -> str:
    """Format a p-value with three digits; a dash if it is None or NaN.

    >>> p_value(0.00001), p_value(0.0321), p_value(None)
    ('< 0.0001', '0.0321', '–')
    """
    if p is None or math.isnan(p):
        return DASH
    return "< 0.0001" if p < 0.0001 else f"{p:.3g}" if p < 0.1 else f"{p:.3f}"


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with this many decimals; a dash if it is None or NaN.

    >>> number(0.66666), number(0.66666, 1), number(None)
    ('0.667', '0.7', '–')
    """
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def with_interval(row: Mapping[Hashable, Any], metric: str) -> str:
    r"""Format a metric of a row with its interval on a second line; a dash if it is undefined.

    >>> with_interval({"auc": 0.61, "auc_low": 0.5, "auc_high": 0.72}, "auc")
    '0.610\n[0.500, 0.720]'
    """
    interval = read_interval(row, metric)
    if math.isnan(interval.value):
        return DASH
    if math.isnan(interval.low):
        return number(interval.value)
    # two lines, so that many columns fit on a page
    return str(interval).replace(" [", "\n[")


def slug(text: str) -> str:
    """Return the text in lower-case letters, digits, ``_`` and ``-``, for a file or an anchor.

    >>> slug("DSC+Struct")
    'dsc_struct'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c == "-") else "_" for c in text.lower())
    return kept.strip("_") or "_"
