"""The tables of problems with a cohort's files, and what the configuration does about each."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.inclusion import PROBLEM_COLUMNS
from mgmt_ray.report.html_table import DASH, Table

UNRESOLVED = "nothing"


@dataclass(frozen=True, slots=True)
class ProblemTables:
    """The problems of a cohort's files and tables.

    Attributes:
        sentence: how many problems were found.
        counts: by kind and by the rule that covers them; None if there are no problems.
        problems: a row per problem; None if there are none.
    """

    sentence: str
    counts: Table | None = None
    problems: Table | None = None


def read_problems(path: Path, name: str = "problems") -> ProblemTables:
    """Read ``problems.csv``; a study without it has a sentence that says so.

    Args:
        name: prefix of the tables' file names.

    Raises:
        MgmtError: the file has other columns.
    """
    if not path.exists():
        return ProblemTables("Problems with files and tables were not recorded for this study.")
    rows = _read_rows(path)
    if not rows:
        return ProblemTables("No problem was found in any file or table.")
    counts = Counter((row["kind"], row["covered_by"]) for row in rows)
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
        for row in rows
    )
    header = ("Subject", "Modality", "Problem", "Found", "Where", "Covered by")
    kinds = ("Problem", "Covered by", "Number")
    num_subjects = len({row["subject"] for row in rows})
    return ProblemTables(
        f"Problems found: {len(rows)}, with files or rows of {num_subjects} subjects.",
        Table(f"{name}_by_kind", "Problems by kind", kinds, counted, is_wide=True),
        Table(name, "All problems", header, listed, is_wide=True),
    )


def faulty_scans(path: Path) -> dict[tuple[str, str], str]:
    """Return the kind of the first problem of each scan, by subject and modality.

    Raises:
        MgmtError: the file has other columns.
    """
    rows = _read_rows(path) if path.exists() else []
    return {(row["subject"], row["modality"]): row["kind"] for row in reversed(rows)}


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        rows = list(table)
    if tuple(table.fieldnames or ()) != PROBLEM_COLUMNS:
        raise MgmtError(
            f"{path}: is not a table of problems. Run `mgmt-ray cohort STUDY` to rewrite it."
        )
    return rows
