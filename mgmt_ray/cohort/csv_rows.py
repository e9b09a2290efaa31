"""Reading tables by the names of their columns, and showing what they hold."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.problem import Problem


def printable(what: object) -> str:
    """A name, path or cell for a printed line: quoted where it would break the line."""
    text = str(what)
    return text if text.isprintable() else repr(text)


def read_rows(
    path: Path, needed: tuple[str, ...], delimiters: str = ","
) -> tuple[list[str], list[dict[str, str]]]:
    """A table by the names of its columns; cells as text without outer spaces.

    Args:
        path: CSV with a first line of names; a byte order mark is skipped.
        needed: columns that must be there.
        delimiters: what may part the cells; that of them is taken which the first line has most.

    Returns:
        The columns' names, and the rows; empty rows are left out.

    Raises:
        MgmtError: no such file, no table, a column is missing or twice there, or a row has more or
            fewer cells than there are columns.
    """
    lines = _lines(path, delimiters)
    columns = lines[0] if lines else []
    missing = [name for name in needed if name not in columns]
    if missing:
        raise MgmtError(
            f"{path}: has no column {', '.join(missing)}; its columns are "
            f"{', '.join(map(printable, columns)) or 'none'}. Take the table as downloaded, names "
            "first."
        )
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if twice:
        raise MgmtError(
            f"{path}: has column {', '.join(map(printable, twice))} more than once. "
            "Keep the right one."
        )
    for number, line in enumerate(lines, start=1):
        if any(line) and (len(line) < len(columns) or any(line[len(columns) :])):
            raise MgmtError(
                f"{path}: row {number} has {len(line)} cells and the header {len(columns)}. "
                "Put quotes around a cell that holds the delimiter; if the file is cut off, copy "
                "it again."
            )
    return columns, [dict(zip(columns, line, strict=False)) for line in lines[1:] if any(line)]


def row_problem(
    subject: str,
    table: Path,
    column: str,
    words: Sequence[str],
    labels: Mapping[str, int | None],
) -> Problem | None:
    """What is wrong with a subject's rows, if anything is.

    Args:
        subject: its id.
        table: for the error.
        column: of the label.
        words: the label in each row of the subject, spelled as in ``labels``.
        labels: what a word may be, and the label it gives.
    """
    if len({labels.get(word, word) for word in words}) > 1:
        found = f"{len(words)} rows with {column} {' and '.join(sorted(map(repr, set(words))))}"
        return Problem(subject, "two_labels", str(table), found, "Keep the right row")
    if len(words) > 1:
        found = f"{len(words)} rows"
        return Problem(subject, "duplicated_subject", str(table), found, "Keep one row")
    if words and words[0] not in labels:
        known = ", ".join(word for word in labels if word)
        remedy = f"Write one of {known} in the column {column}"
        return Problem(subject, "unknown_label", str(table), f"{column} is {words[0]!r}", remedy)
    return None


def _lines(path: Path, delimiters: str) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(delimiters, key=first.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        return [[cell.strip() for cell in row] for row in rows]
    except OSError as error:
        raise MgmtError(
            f"{path}: cannot be read ({error.strerror}). Give the table's right place."
        ) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise MgmtError(f"{path}: is no table ({error}). Save it as CSV (UTF-8).") from error
