"""The report's tables of what was wrong with files and tables, and what covers it."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.report.html_table import DASH, Table

COLUMNS = {"subject", "kind", "where", "found", "remedy", "modality", "covered_by"}
UNRESOLVED = "nothing"


@dataclass(frozen=True, slots=True)
class ProblemTables:
    """Everything that was wrong, or that nothing was.

    Attributes:
        sentence: how much was found.
        counts: by kind and by what covers it; None where nothing was found.
        problems: each; None where nothing was found.
    """

    sentence: str
    counts: Table | None = None
    problems: Table | None = None


def read_problems(path: Path, name: str = "problems") -> ProblemTables:
    """What is in ``problems.csv``; a study made before there was one says so.

    Args:
        path: of the file.
        name: of the tables' files.

    Raises:
        MgmtError: the file has other columns.
    """
    if not path.exists():
        return ProblemTables("Problems with files and tables were not recorded for this study.")
    found = _read_rows(path)
    if not found:
        return ProblemTables("No problem was found in any file or table.")
    counts = Counter((row["kind"], row["covered_by"]) for row in found)
    counted = tuple(
        (kind.replace("_", " "), covered or UNRESOLVED, str(number))
        for (kind, covered), number in sorted(counts.items())
    )
    listed = tuple(
        (
            row["subject"],
            row["modality"] or DASH,
            row["kind"].replace("_", " "),
            row["found"],
            row["where"],
            row["covered_by"] or UNRESOLVED,
        )
        for row in found
    )
    header = ("Subject", "Modality", "Problem", "Found", "Where", "Covered by")
    kinds = ("Problem", "Covered by", "Number")
    num_subjects = len({row["subject"] for row in found})
    return ProblemTables(
        f"Problems found: {len(found)}, with files or rows of {num_subjects} subjects.",
        Table(f"{name}_by_kind", "Problems by kind", kinds, counted, is_wide=True),
        Table(name, "Every problem", header, listed, is_wide=True),
    )


def faulty_scans(path: Path) -> dict[tuple[str, str], str]:
    """By subject and modality the first problem of that scan; none where none was recorded.

    Raises:
        MgmtError: the file has other columns.
    """
    rows = _read_rows(path) if path.exists() else []
    return {(row["subject"], row["modality"]): row["kind"] for row in reversed(rows)}


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        found = list(table)
    if set(table.fieldnames or ()) != COLUMNS:
        raise MgmtError(
            f"{path}: is not a table of problems. Run `mgmt-ray cohort STUDY` to make it again."
        )
    return found
