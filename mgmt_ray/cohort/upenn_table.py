"""The clinical table of UPENN-GBM, versions 1.0 and 2.1."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError

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


def read_clinical_table(path: Path, subject_id: re.Pattern[str]) -> dict[str, ClinicalRow]:
    """Read a clinical table of any version by the names of its columns.

    Args:
        path: the CSV file.
        subject_id: what every id must look like.

    Returns:
        A row by subject id.

    Raises:
        MgmtError: not a table, a column is missing, an id is strange or there twice, or an MGMT
            status is none of the four known words.
    """
    records = _records(path)
    ids = [record["ID"] for record in records]
    strange = [name for name in ids if not subject_id.fullmatch(name)]
    if strange:
        raise MgmtError(
            f"{path}: ids {_first(strange)} do not look like UPENN-GBM-00001_11. "
            "Take the table as downloaded; a spreadsheet may have changed it."
        )
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        raise MgmtError(f"{path}: {_first(twice)} have more than one row. Keep one row each.")
    unknown = [f"{r['ID']} {r['MGMT']!r}" for r in records if r["MGMT"] not in LABELS]
    if unknown:
        raise MgmtError(
            f"{path}: unknown MGMT status of {_first(unknown)}. "
            f"Write one of {', '.join(LABELS)} in the column MGMT."
        )
    return {record["ID"]: _row(record) for record in records}


def _records(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise MgmtError(f"{path}: is no CSV table ({error}). Download it again.") from error
    columns = lines[0] if lines else []
    missing = [name for name in ("ID", "MGMT") if name not in columns]
    if missing:
        raise MgmtError(
            f"{path}: has no column {', '.join(missing)}; its columns are "
            f"{', '.join(columns) or 'none'}. "
            "Download the table again; it is comma-separated, names first."
        )
    filled = [line + [""] * (len(columns) - len(line)) for line in lines[1:] if any(line)]
    return [dict(zip(columns, line, strict=False)) for line in filled]


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
