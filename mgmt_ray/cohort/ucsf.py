"""The UCSF-PDGM data set as The Cancer Imaging Archive gives it (version 5).

Calabrese et al. 2022, "The University of California San Francisco preoperative diffuse glioma MRI
dataset". Scans are told by their exact names: ``_T1_bias`` and the like lie beside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Exclusion
from mgmt_ray.cohort.folders import DataSetLayout, FoundCopy, find_copy
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import ReaderConfig, Reading, complete_groups, read_rows
from mgmt_ray.cohort.subject import STRUCTURAL, Subject

SCAN_NAMES = {m: "T1c" if m == "T1GD" else m for m in (*STRUCTURAL, "SWI", "DWI", "ADC", "ASL")}
"""How the data set calls each modality."""

LAYOUT = DataSetLayout(
    "UCSF-PDGM",
    re.compile(r"(UCSF-PDGM-\d{4}(?:_FU\d+d)?)_nifti"),
    re.compile(r"UCSF-PDGM-\d|\."),
    "UCSF-PDGM-metadata*.csv",
    "UCSF-PDGM-0004_nifti",
)
TABLE_ID = re.compile(r"UCSF-PDGM-(\d{1,4})(_FU\d+d)?")
FOLLOW_UP = "_FU"
"""The table writes three digits, and four for follow-ups; files always have four."""

STATUS, GRADE, BRATS21_ID = "MGMT status", "WHO CNS Grade", "BraTS21 ID"
LABELS: dict[str, int | None] = {
    "positive": 1,
    "negative": 0,
    "indeterminate": None,
    "unknown": None,
}
"""What the column of the MGMT status may say, and the label it gives."""

COVARIATES = {
    "age": "Age at MRI",
    "sex": "Sex",
    "idh1": "IDH",
    "grade": GRADE,
    "diagnosis": "Final pathologic diagnosis (WHO 2021)",
    "codeletion_1p19q": "1p/19q",
    "extent_of_resection": "EOR",
    "biopsy_before": "Biopsy prior to imaging",
}
"""Column of each covariate; age is in years. The MGMT index is none: it is the label, counted."""

UNKNOWN = ("", "unknown")


class UcsfConfig(ReaderConfig):
    """A copy of UCSF-PDGM."""

    offered = tuple(SCAN_NAMES)
    reader: Literal["ucsf"]
    grades: tuple[int, ...] = Field(
        (4,), description="WHO grades of the tumours that are used; none named: all"
    )


def read_ucsf(config: UcsfConfig) -> Reading:
    """Preoperative subjects with an MGMT status, a tumour mask and at least one wanted scan.

    Everyone in the table or on disk is found. Follow-ups, other grades, a status that is neither
    positive nor negative and rows without scans are what the data set is: they are excluded with
    the reason.

    Raises:
        MgmtError: no such folder, images or table, or a table without the columns of one.
    """
    copy = find_copy(config.root, LAYOUT)
    rows = _rows_by_id(copy.table, (GRADE,) if config.grades else ())
    parts = []
    for name in sorted(rows.keys() | copy.folders.keys()):
        own = rows.get(name, [])
        fault = _row_fault(copy.table, name, own) or copy.fault(name)
        reason = _reason_by_table(name, own[0] if own else None, config.grades)
        if reason and not fault:
            parts.append(Reading((), (Exclusion(name, "cohort", reason),)))
        elif fault := fault or _label_fault(copy.table, name, own[0]):
            parts.append(Reading((), (), (fault,)))
        else:
            parts.append(_read_one(config, copy, name, own[0]))
    return Reading(
        tuple(subject for part in parts for subject in part.subjects),
        tuple(exclusion for part in parts for exclusion in part.exclusions),
        tuple(problem for part in parts for problem in part.problems),
    )


def scan_name(subject: str, modality: str) -> str:
    """File name of a subject's scan, like ``UCSF-PDGM-0004_T1c.nii.gz``."""
    return f"{subject}_{SCAN_NAMES[modality]}.nii.gz"


def mask_name(subject: str) -> str:
    """File name of a subject's tumour mask."""
    return f"{subject}_tumor_segmentation.nii.gz"


def _rows_by_id(path: Path, more_columns: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    rows: dict[str, list[dict[str, str]]] = {}
    for row in read_rows(path, ("ID", STATUS, *more_columns)):
        match = TABLE_ID.fullmatch(row["ID"])
        if not match:
            raise MgmtError(
                f"{path}: id {row['ID']!r} does not look like UCSF-PDGM-004. "
                "Take the table as downloaded; a spreadsheet may have changed it."
            )
        name = f"UCSF-PDGM-{match[1].zfill(4)}{match[2] or ''}"
        rows.setdefault(name, []).append(row)
    return rows


def _row_fault(path: Path, name: str, rows: list[dict[str, str]]) -> Problem | None:
    if len(rows) < 2:
        return None
    statuses = sorted({row[STATUS].lower() for row in rows})
    if len(statuses) > 1:
        found = f"{len(rows)} rows with MGMT status {' and '.join(statuses)}"
        return Problem(name, "two_labels", str(path), found, "Keep the right row")
    return Problem(name, "duplicated_subject", str(path), f"{len(rows)} rows", "Keep one row")


def _label_fault(path: Path, name: str, row: Mapping[str, str]) -> Problem | None:
    if row[STATUS].lower() in LABELS:
        return None
    found = f"MGMT status is {row[STATUS]!r}"
    remedy = f"Write one of {', '.join(LABELS)} in the column {STATUS}"
    return Problem(name, "unknown_label", str(path), found, remedy)


def _reason_by_table(name: str, row: Mapping[str, str] | None, grades: tuple[int, ...]) -> str:
    if FOLLOW_UP in name:
        return "follow-up scan"
    if row is None:
        return "not in the metadata table"
    if grades and row[GRADE] not in map(str, grades):
        return f"WHO grade {row[GRADE] or 'not given'}"
    status = row[STATUS].lower()
    return f"MGMT {status}" if LABELS.get(status, 0) is None else ""


def _read_one(config: UcsfConfig, copy: FoundCopy, name: str, row: Mapping[str, str]) -> Reading:
    folder = copy.folders[name][0] if name in copy.folders else None
    paths = {m: folder / scan_name(name, m) for m in SCAN_NAMES} if folder else {}
    found = {m: path for m, path in paths.items() if path.is_file()}
    if folder is None or not set(config.modalities) & set(found):
        reason = "none of the study's modalities" if found else "no scans"
        return Reading((), (Exclusion(name, "cohort", reason),))
    mask = folder / mask_name(name)
    if not mask.is_file():
        remedy = "Copy the file there, or leave the subject out with cohort.exclude"
        problem = Problem(name, "no_mask", str(mask), "no tumour mask", remedy)
        return Reading((), (), (problem,))
    scans, lacks, incomplete = complete_groups(name, found, config.modalities, folder)
    label = LABELS[row[STATUS].lower()]
    assert label is not None
    covariates = {
        covariate: row[column]
        for covariate, column in COVARIATES.items()
        if row.get(column, "").lower() not in UNKNOWN
    }
    subject = Subject(name, label, scans, mask, covariates, _person(copy.table, name, row))
    return Reading((subject,), tuple(lacks), tuple(incomplete))


def _person(table: Path, name: str, row: Mapping[str, str]) -> str:
    """The case of BraTS21 that the subject is, by which that data set's reader knows it too."""
    given = row.get(BRATS21_ID, "")
    if given.lower() in UNKNOWN:
        return name
    match = re.fullmatch(r"(?:BraTS2021_)?(\d{1,5})", given)
    if not match:
        raise MgmtError(
            f"{table}: {name} has {BRATS21_ID} {given!r}, which does not look like "
            "BraTS2021_00097. Mend or empty the cell: it tells who is in both data sets."
        )
    return f"BraTS2021_{match[1].zfill(5)}"
