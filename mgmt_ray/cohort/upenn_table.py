"""The clinical table of UPENN-GBM, versions 1.0 and 2.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import read_rows, row_fault
from mgmt_ray.cohort.problem import Problem

CLINICAL_TABLE = "UPENN-GBM_clinical_info_*.csv"
LABELS: dict[str, int | None] = {
    "Methylated": 1,
    "Unmethylated": 0,
    "Indeterminate": None,
    "Not Available": None,
}
"""What the column MGMT may say, and the label it gives."""

COVARIATES = {
    "age": "Age_at_scan_years",
    "sex": "Gender",
    "idh1": "IDH1",
    "kps": "KPS",
    "gross_total_resection": "GTR_over90percent",
}
"""Column of each covariate; age is in years, the resection tells whether over 90 % was taken."""

UNKNOWN = ("", "Not Available")


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """What the table says of one scan session.

    Attributes:
        subject: with the session's suffix, like ``UPENN-GBM-00001_11``.
        mgmt: the table's word.
        label: 1 methylated, 0 unmethylated, None for neither.
        covariates: as text; those that are not known are left out.
    """

    subject: str
    mgmt: str
    label: int | None
    covariates: Mapping[str, str]


def read_clinical_table(
    path: Path, subject_id: re.Pattern[str]
) -> tuple[dict[str, ClinicalRow], list[Problem]]:
    """Read a clinical table of any version by the names of its columns.

    Args:
        path: the CSV file.
        subject_id: what every id must look like.

    Returns:
        A row by subject id, and a problem for each id that has several rows or an MGMT status that
        is none of the four known words; such an id has no row.

    Raises:
        MgmtError: not a table, a column is missing, or ids look strange.
    """
    _, records = read_rows(path, ("ID", "MGMT"))
    strange = [repr(r["ID"]) for r in records if not subject_id.fullmatch(r["ID"])]
    if strange:
        raise MgmtError(
            f"{path}: ids {_first(strange)} do not look like UPENN-GBM-00001_11. "
            "Take the table as downloaded; a spreadsheet may have changed it."
        )
    by_id: dict[str, list[dict[str, str]]] = {}
    for record in records:
        by_id.setdefault(record["ID"], []).append(record)
    faults = (
        row_fault(name, path, "MGMT", [row["MGMT"] for row in own], LABELS)
        for name, own in by_id.items()
    )
    problems = [fault for fault in faults if fault]
    faulty = {problem.subject for problem in problems}
    return {name: _row(own[0]) for name, own in by_id.items() if name not in faulty}, problems


def _row(record: Mapping[str, str]) -> ClinicalRow:
    known = {
        name: record[column]
        for name, column in COVARIATES.items()
        if record.get(column, "") not in UNKNOWN
    }
    return ClinicalRow(record["ID"], record["MGMT"], LABELS[record["MGMT"]], known)


def _first(items: list[str], number: int = 10) -> str:
    more = f" and {len(items) - number} more" if len(items) > number else ""
    return ", ".join(items[:number]) + more
