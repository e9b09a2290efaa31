"""The columns of the report's tables: heading and format of each value of the tables of results."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeAlias

import pandas as pd

from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report.html_table import DASH, Table, number, p_value, with_interval
from mgmt_ray.report.summary import chance_cell
from mgmt_ray.selection.result_columns import RESULT_COLUMNS, Format
from mgmt_ray.training.metrics import METRIC_LABELS

Row: TypeAlias = Mapping[Hashable, Any]
Cell: TypeAlias = Callable[[Row], str]
"""The text of a cell, from a row of a table of results."""


def text(column: str) -> Cell:
    """Return the cells that hold a value as it is."""
    return lambda row: str(row[column])


def rounded(column: str, digits: int = 3) -> Cell:
    """Return the cells that hold a number with this many decimals."""
    return lambda row: number(row[column], digits)


def interval(column: str) -> Cell:
    """Return the cells that hold a value and its 95 % interval."""
    return lambda row: with_interval(row, column)


def p(column: str) -> Cell:
    """Return the cells that hold a p-value."""
    return lambda row: p_value(row[column])


def network_name(row: Row) -> str:
    """Return the displayed name of a row's network or baseline."""
    return network_label(row["network"])


def ensemble_or_dash(row: Row) -> str:
    """Return a row's ensemble; a dash for a baseline, whose ensemble has its name."""
    return DASH if row["network"] == row["ensemble"] else str(row["ensemble"])


def subjects(row: Row) -> str:
    """Return a row's number of subjects, with the methylated in parentheses."""
    return f"{row['num_subjects']} ({row['num_methylated']})"


def family(row: Row) -> str:
    """Return a row's family of hypotheses, or the row that it is a copy of; a dash for neither."""
    return f"as {row['copy_of']}" if row["copy_of"] else row["family"] or DASH


_CELLS: Mapping[Format, Callable[[str], Cell]] = {
    "text": text,
    "count": text,
    "number": rounded,
    "interval": interval,
    "p": p,
}

COLUMNS: dict[str, tuple[str, Cell]] = {
    **{
        name: (column.heading, _CELLS[column.format](name))
        for name, column in RESULT_COLUMNS.items()
        if column.heading
    },
    "network": ("Network", network_name),
    "model": ("Ensemble", ensemble_or_dash),
    "subjects": ("Subjects\n(methylated)", subjects),
    "chance": ("AUC against\nchance", chance_cell),
    "family": ("Family", family),
}
"""Heading and cells of the columns of tables of results, and of a few that are made of several."""

METRICS = tuple(METRIC_LABELS)


def columns(*parts: str | Mapping[str, Cell]) -> dict[str, Cell]:
    """Return cells by heading: of names in :data:`COLUMNS`, and of a table's own cells."""
    chosen: dict[str, Cell] = {}
    for part in parts:
        chosen |= dict([COLUMNS[part]]) if isinstance(part, str) else part
    return chosen


def make_table(
    name: str,
    caption: str,
    cells: Mapping[str, Cell],
    rows: pd.DataFrame | Iterable[Mapping[Any, Any]],
    *,
    is_wide: bool = False,
) -> Table:
    """Return a table with a cell for each column and row.

    Args:
        name: see :class:`Table`.
        caption: see :class:`Table`.
        cells: by heading, see :func:`columns`.
        rows: of a table of results.
        is_wide: see :class:`Table`.

    >>> make_table("t", "caption", columns("network", {"M": rounded("m", 1)}), [
    ...     {"network": "random", "m": 0.25}]).rows
    (('From scratch', '0.2'),)
    """
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    texts = tuple(tuple(cell(row) for cell in cells.values()) for row in records)
    return Table(name, caption, tuple(cells), texts, is_wide)
