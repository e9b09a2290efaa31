"""Reading CSV tables by column name, grouping their rows, and quoting their cells in messages."""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mgmt_ray.base import MgmtError, placeholder_fault, quantity
from mgmt_ray.cohort.problem import Problem

DELIMITERS = ",;\t"
"""Excel writes semicolons in many European locales, and tabs as "Unicode text"."""

INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
SAME_CHARACTERS = {
    **dict.fromkeys(map(ord, INVISIBLE)),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"),
    ord("_"): " ",
}
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of xlsx and xls files."""

SHOWN_ALIKE = 3

OWN_TABLE = "Give these names to columns of the table's first row."
AS_DOWNLOADED = "Use the table as downloaded, with its header line first."

UNKNOWN_WORDS = (
    *("", "na", "n/a", "#n/a", "n.a.", "nan", "none", "null", "unknown", "not known", "missing"),
    *("not available", "not given", "-", "--", "?", "."),
)
"""Cells that mean that a value is unknown, as :func:`normalise` writes them."""

LABELS: Mapping[str, int | None] = {
    **dict.fromkeys(("1", "methylated", "positive", "true"), 1),
    **dict.fromkeys(("0", "unmethylated", "negative", "false"), 0),
    **dict.fromkeys(("non-methylated", "not methylated", "un-methylated"), 0),
    **dict.fromkeys(("indeterminate", "inconclusive", "not determined", "not tested")),
    **dict.fromkeys(UNKNOWN_WORDS),
}
"""Label of each word, as :func:`normalise` writes it; None where it is unknown."""


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


def group_alike(faults: Iterable[tuple[str, str, str]]) -> list[str]:
    """Return messages, of which more than :data:`SHOWN_ALIKE` that differ in numbers are one.

    Args:
        faults: subject, message, and the part of it that says what is wrong.

    >>> faults = [(f"P{i}", f"P{i}: p{i}.nii: has {i} bytes.", f"has {i} bytes") for i in range(9)]
    >>> group_alike(faults)
    ['P0: p0.nii: has 0 bytes. (8 more like this: P1, P2, P3 and 5 more)']
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for subject, message, fault in faults:
        kind = re.sub(r"\d+", "#", fault.replace(subject, ""))
        groups.setdefault(kind, []).append((subject, message))
    lines = []
    for group in groups.values():
        if len(group) <= SHOWN_ALIKE:
            lines += [message for _, message in group]
            continue
        subjects = list(dict.fromkeys(subject for subject, _ in group[1:]))
        others = f"{len(group) - 1} more like this: {join_first(subjects, 3)}"
        lines.append(f"{group[0][1]} ({others})")
    return lines


def normalise(cell: str) -> str:
    """Return one spelling for cells or names that differ in case, spaces, hyphens or marks.

    >>> normalise("  Not_Available "), normalise("Non\N{EN DASH}methylated")
    ('not available', 'non-methylated')
    """
    text = unicodedata.normalize("NFKC", cell).translate(SAME_CHARACTERS)
    return " ".join(text.casefold().split())


def is_unknown(cell: str) -> bool:
    """Return whether a cell means that a value is unknown, in any reader.

    >>> [is_unknown(cell) for cell in ("", "N/A", "Not available", "-", "0")]
    [True, True, True, True, False]
    """
    return normalise(cell) in UNKNOWN_WORDS


def read_number(cell: str) -> float:
    """Return a cell's number, with a decimal point or comma; NaN where there is none.

    >>> read_number("45.5"), read_number("45,5"), read_number("4.5,6")
    (45.5, 45.5, nan)
    """
    try:
        return float(cell.replace(",", ".") if cell.count(",") == 1 else cell)
    except ValueError:
        return math.nan


def read_rows(
    path: Path, needed: Sequence[str], optional: Iterable[str] = (), remedy: str = OWN_TABLE
) -> tuple[list[str], list[dict[str, str]]]:
    r"""Read the columns and rows of a CSV table; cells are text without outer spaces.

    Encoding, delimiter and Excel's line ``sep=;`` are as in :func:`read_cells`; empty rows are
    omitted. Columns are matched in any case, and then have the name that was asked for.

    Args:
        optional: further columns that are asked for.
        remedy: what to do where a needed column is missing.

    Raises:
        MgmtError: the file is missing or not a table, a column is missing or duplicated, or a row
            has more or fewer cells than the header.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "cohort.csv")
    ...     _ = path.write_text("Subject;label\nP1;methylated\n")
    ...     read_rows(path, ("subject",))
    (['subject', 'label'], [{'subject': 'P1', 'label': 'methylated'}])
    """
    lines = read_cells(path, needed)
    first = next((i for i, line in enumerate(lines) if any(line)), 0)
    header = lines[first] if lines else []
    columns = _requested_names(header, (*needed, *optional))
    missing = [name for name in needed if name not in columns]
    if missing:
        if len(header) == 1 and not header[0].isalnum():
            remedy = "Put commas, semicolons or tabs between cells. " + remedy
        raise MgmtError(
            f"{path}: has no column {', '.join(missing)}; its columns are "
            f"{', '.join(map(printable, header)) or 'none'}. {remedy}"
        )
    duplicates = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if duplicates:
        raise MgmtError(
            f"{path}: has column {', '.join(map(printable, duplicates))} more than once. "
            "Keep the right one."
        )
    wrong = [
        f"row {number} has {quantity(len(line), 'cell')}"
        for number, line in enumerate(lines, start=1)
        if any(line) and (len(line) < len(columns) or any(line[len(columns) :]))
    ]
    if wrong:
        raise MgmtError(
            f"{path}: {join_first(wrong, 3)} and the header {len(columns)}. "
            "Put quotes around a cell that contains the delimiter; if the file is "
            "truncated, copy it again."
        )
    rows = [dict(zip(columns, line, strict=False)) for line in lines[first + 1 :] if any(line)]
    return columns, rows


def _requested_names(header: Sequence[str], names: Iterable[str]) -> list[str]:
    """Return the header with columns named as asked for where they differ in case or spaces."""
    requested = {normalise(name): name for name in names if name not in header}
    return [requested.get(normalise(name), name) for name in header]


def group_rows(rows: Iterable[dict[str, str]], column: str) -> dict[str, list[dict[str, str]]]:
    """Group rows by the value of one column, in order of first appearance.

    >>> group_rows([{"id": "a", "x": "1"}, {"id": "b", "x": "2"}, {"id": "a", "x": "3"}], "id")
    {'a': [{'id': 'a', 'x': '1'}, {'id': 'a', 'x': '3'}], 'b': [{'id': 'b', 'x': '2'}]}
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def known_cells(row: Mapping[str, str], columns: Mapping[str, str]) -> dict[str, str]:
    """Return a row's cells of the columns, by covariate, without unknown ones.

    >>> known_cells({"Sex": "F", "KPS": "Unknown"}, {"sex": "Sex", "kps": "KPS"})
    {'sex': 'F'}
    """
    cells = {name: row.get(column, "") for name, column in columns.items()}
    return {name: cell for name, cell in cells.items() if not is_unknown(cell)}


def read_label(cell: str) -> int | None:
    """Return the label that a cell means: 1 methylated, 0 unmethylated, None unknown.

    Raises:
        KeyError: none of these (see :func:`row_problem`).

    >>> read_label("Methylated"), read_label("0.0"), read_label("n/a")
    (1, 0, None)
    """
    return LABELS[_label_word(cell)]


def _label_word(cell: str) -> str:
    word = normalise(cell)
    return re.sub(r"([01])[.,]0*", r"\1", word) if re.fullmatch(r"[01][.,]0*", word) else word


def row_problem(subject: str, table: Path, column: str, cells: Sequence[str]) -> Problem | None:
    """Return the problem of a subject's rows: several rows, or an unknown label.

    Args:
        cells: the label in each of the subject's rows.

    >>> row_problem("P1", Path("cohort.csv"), "label", ["methylated"])
    >>> row_problem("P1", Path("cohort.csv"), "label", ["maybe"]).found
    "label is 'maybe'"
    """
    words = [_label_word(cell) for cell in cells]
    if len({LABELS.get(word, word) for word in words}) > 1:
        found = f"{len(cells)} rows with {column} {' and '.join(sorted(map(repr, set(cells))))}"
        return Problem(subject, "two_labels", str(table), found, "Keep the right row")
    if len(cells) > 1:
        found = f"{len(cells)} rows"
        return Problem(subject, "duplicated_subject", str(table), found, "Keep one row")
    if words and words[0] not in LABELS:
        remedy = (
            f"Write 1, methylated or positive, 0, unmethylated or negative, or unknown in the "
            f"column {column}"
        )
        return Problem(subject, "unknown_label", str(table), f"{column} is {cells[0]!r}", remedy)
    return None


def read_cells(path: Path, names: Sequence[str] = ()) -> list[list[str]]:
    r"""Read the rows of a CSV table: UTF-8, or UTF-16 with its mark, as spreadsheets write it.

    Cells are delimited by commas, semicolons or tabs: as a first line ``sep=;`` says, else by what
    gives the first row the most of its expected names, then the most cells.

    Args:
        names: of columns that are expected in the first row that is not empty.

    Raises:
        MgmtError: the file cannot be read, or is not such a table.
    """
    text = _read_text(path)
    mark = re.match(r'"?sep=([,;\t])"?[^\r\n]*', text, re.IGNORECASE)
    text = text[mark.end() :] if mark else text  # the rest of the line is an empty row
    delimiter = mark[1] if mark else max(DELIMITERS, key=lambda d: _fit(text, d, names))
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    try:
        return [[cell.strip().strip(INVISIBLE) for cell in row] for row in reader]
    except csv.Error as error:
        raise MgmtError(
            f"{path}: line {reader.line_num}: is not a table ({error}). Close every quote, and "
            "save the table as CSV (UTF-8)."
        ) from error


def _fit(text: str, delimiter: str, names: Sequence[str]) -> tuple[int, int, int]:
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        first: list[str] = next(filter(any, rows), [])
    except csv.Error:
        return 0, 0, 0
    header = {*map(normalise, first)}
    return sum(normalise(name) in header for name in names), len(first), text.count(delimiter)


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MgmtError(
            f"{path}: cannot be read ({error.strerror}). Give the right path of the table."
        ) from error
    if fault := placeholder_fault(content):
        raise MgmtError(f"{path}: is no table but {fault[0]}. {fault[1]}.")
    if content.startswith(WORKBOOKS):
        raise MgmtError(f"{path}: is an Excel workbook. Save it as CSV (UTF-8).")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = f"line {line} has a character that is not {error.encoding.upper()}"
        raise MgmtError(f"{path}: {found}. Save the table as CSV (UTF-8).") from error
    if "\0" in text:
        raise MgmtError(f"{path}: is not a text file. Save the table as CSV (UTF-8).")
    return text
