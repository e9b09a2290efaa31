"""Reading CSV tables by column name, grouping their rows, and quoting their cells in messages."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.problem import Problem


def printable(value: object) -> str:
    r"""Return a name, path or cell for a one-line message, quoted where it would break the line.

    >>> print(printable("T1"), printable("T1\nGD"))
    T1 'T1\nGD'
    """
    text = str(value)
    return text if text.isprintable() else repr(text)


def join_first(items: Sequence[str], number: int = 10) -> str:
    """Join the first items of a list for a message and count the others.

    >>> join_first(["a", "b", "c", "d"], 2)
    'a, b and 2 more'
    """
    more = f" and {len(items) - number} more" if len(items) > number else ""
    return ", ".join(items[:number]) + more


def read_rows(
    path: Path, needed: tuple[str, ...], delimiters: str = ","
) -> tuple[list[str], list[dict[str, str]]]:
    r"""Read the columns and rows of a CSV table (UTF-8); cells are text without outer spaces.

    Of the delimiters the most frequent in the header line is used; empty rows are omitted.

    Raises:
        MgmtError: the file is missing or not a table, a column is missing or duplicated, or a row
            has more or fewer cells than the header.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cohort.csv")
    ...     _ = path.write_text("subject;label\nP1;methylated\n")
    ...     read_rows(path, ("subject",), ",;")
    (['subject', 'label'], [{'subject': 'P1', 'label': 'methylated'}])
    """
    lines = _read_cells(path, delimiters)
    columns = lines[0] if lines else []
    missing = [name for name in needed if name not in columns]
    if missing:
        raise MgmtError(
            f"{path}: has no column {', '.join(missing)}; its columns are "
            f"{', '.join(map(printable, columns)) or 'none'}. Use the table as downloaded, with "
            "its header line first."
        )
    duplicates = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if duplicates:
        raise MgmtError(
            f"{path}: has column {', '.join(map(printable, duplicates))} more than once. "
            "Keep the right one."
        )
    for number, line in enumerate(lines, start=1):
        if any(line) and (len(line) < len(columns) or any(line[len(columns) :])):
            raise MgmtError(
                f"{path}: row {number} has {len(line)} cells and the header {len(columns)}. "
                "Put quotes around a cell that contains the delimiter; if the file is "
                "truncated, copy it again."
            )
    return columns, [dict(zip(columns, line, strict=False)) for line in lines[1:] if any(line)]


def group_rows(rows: Iterable[dict[str, str]], column: str) -> dict[str, list[dict[str, str]]]:
    """Group rows by the value of one column, in order of first appearance.

    >>> group_rows([{"id": "a", "x": "1"}, {"id": "b", "x": "2"}, {"id": "a", "x": "3"}], "id")
    {'a': [{'id': 'a', 'x': '1'}, {'id': 'a', 'x': '3'}], 'b': [{'id': 'b', 'x': '2'}]}
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def known_cells(
    row: Mapping[str, str], columns: Mapping[str, str], unknown: Sequence[str]
) -> dict[str, str]:
    """Return a row's cells of the columns, by covariate, without unknown (lower case) ones.

    >>> known_cells({"Sex": "F", "KPS": "Unknown"}, {"sex": "Sex", "kps": "KPS"}, ["", "unknown"])
    {'sex': 'F'}
    """
    cells = {name: row.get(column, "") for name, column in columns.items()}
    return {name: cell for name, cell in cells.items() if cell.lower() not in unknown}


def row_problem(
    subject: str, table: Path, column: str, cells: Sequence[str], labels: Mapping[str, int | None]
) -> Problem | None:
    """Return the problem of a subject's rows: several rows, or an unknown label.

    Args:
        cells: the label in each of the subject's rows, spelled as in ``labels``.
        labels: the label that each accepted spelling means.

    >>> labels = {"methylated": 1, "unmethylated": 0}
    >>> row_problem("P1", Path("cohort.csv"), "label", ["methylated"], labels)
    >>> row_problem("P1", Path("cohort.csv"), "label", ["maybe"], labels).found
    "label is 'maybe'"
    """
    if len({labels.get(cell, cell) for cell in cells}) > 1:
        found = f"{len(cells)} rows with {column} {' and '.join(sorted(map(repr, set(cells))))}"
        return Problem(subject, "two_labels", str(table), found, "Keep the right row")
    if len(cells) > 1:
        found = f"{len(cells)} rows"
        return Problem(subject, "duplicated_subject", str(table), found, "Keep one row")
    if cells and cells[0] not in labels:
        accepted = ", ".join(word for word in labels if word)
        remedy = f"Write one of {accepted} in the column {column}"
        return Problem(subject, "unknown_label", str(table), f"{column} is {cells[0]!r}", remedy)
    return None


def _read_cells(path: Path, delimiters: str) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(delimiters, key=first.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [[cell.strip() for cell in row] for row in rows]
    except OSError as error:
        raise MgmtError(
            f"{path}: cannot be read ({error.strerror}). Give the right path of the table."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise MgmtError(f"{path}: is not a table ({error}). Save it as CSV (UTF-8).") from error
