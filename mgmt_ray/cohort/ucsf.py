"""The UCSF-PDGM data set as published by The Cancer Imaging Archive (version 5).

Calabrese et al. 2022, "The University of California San Francisco preoperative diffuse glioma MRI
dataset". Scans are matched by their exact names: files like ``_T1_bias`` are next to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.brats21 import case_number
from mgmt_ray.cohort.csv_rows import (
    AS_DOWNLOADED,
    group_rows,
    is_unknown,
    join_first,
    known_cells,
    read_label,
    read_rows,
    row_problem,
)
from mgmt_ray.cohort.dataset_files import (
    DataSetFiles,
    DataSetLayout,
    duplicate_folder_problem,
    find_data_set,
    find_nifti,
)
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import (
    ReaderConfig,
    ReaderResult,
    exclude_subject,
    merge_results,
    missing_mask_problem,
    reason_without_scans,
    subject_result,
)
from mgmt_ray.cohort.subject import STRUCTURAL, Subject

SCAN_NAMES = {m: "T1c" if m == "T1GD" else m for m in (*STRUCTURAL, "SWI", "DWI", "ADC", "ASL")}
"""The data set's name of each modality."""

TABLE_ID = re.compile(r"UCSF-PDGM-(\d{1,4})(_FU\d+d)?")
"""The table has three digits, and four for follow-ups; files have four, unless renamed."""

FOLLOW_UP = "_FU"


def _id(match: re.Match[str]) -> str:
    return f"UCSF-PDGM-{match[1].zfill(4)}{match[2] or ''}"


LAYOUT = DataSetLayout(
    "UCSF-PDGM",
    re.compile(TABLE_ID.pattern + r"(?:_nifti)?"),
    re.compile(r"UCSF-PDGM-\d"),
    "UCSF-PDGM-metadata*.csv",
    "UCSF-PDGM-0004_nifti",
    _id,
)

STATUS, GRADE, BRATS21_ID = "MGMT status", "WHO CNS Grade", "BraTS21 ID"
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
"""Column of each covariate; age is in years. The MGMT index is omitted: it determines the label."""

NOT_IN_TABLE = "not in the metadata table"
ROMAN = ("I", "II", "III", "IV")


class UcsfConfig(ReaderConfig):
    """A copy of UCSF-PDGM."""

    available_modalities = tuple(SCAN_NAMES)
    reader: Literal["ucsf"]
    grades: tuple[int, ...] = Field(
        (4,), description="WHO grades of the tumours that are used; empty: all"
    )


def read_ucsf(config: UcsfConfig) -> ReaderResult:
    """Read preoperative subjects with an MGMT status, a tumour mask and a scan of the study.

    Every id in the table or on disk appears in the result. Follow-ups, other grades, a status that
    is neither positive nor negative and rows without scans belong to the data set: they are
    excluded with the reason and are not problems.

    Raises:
        MgmtError: the folder, the images, the table or one of its columns is missing.
    """
    data_set = find_data_set(config.root, LAYOUT)
    rows = _rows_by_id(data_set.table, (GRADE,) if config.grades else ())
    names = sorted(rows.keys() | data_set.folders.keys())
    return merge_results(_read_row(config, data_set, name, rows.get(name, [])) for name in names)


def scan_name(subject: str, modality: str) -> str:
    """Return the file name of a subject's scan, like ``UCSF-PDGM-0004_T1c.nii.gz``."""
    return f"{subject}_{SCAN_NAMES[modality]}.nii.gz"


def mask_name(subject: str) -> str:
    """Return the file name of a subject's tumour mask."""
    return f"{subject}_tumor_segmentation.nii.gz"


def _rows_by_id(path: Path, more_columns: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    names = (*COVARIATES.values(), BRATS21_ID)
    _, rows = read_rows(path, ("ID", STATUS, *more_columns), names, AS_DOWNLOADED)
    matches = [TABLE_ID.fullmatch(row["ID"]) for row in rows]
    invalid = [repr(row["ID"]) for row, match in zip(rows, matches, strict=True) if not match]
    if invalid:
        raise MgmtError(
            f"{path}: ids {join_first(invalid)} do not look like UCSF-PDGM-004. "
            "Use the table as downloaded; a spreadsheet may have changed it."
        )
    named = ({**row, "ID": _id(match)} for row, match in zip(rows, matches, strict=True) if match)
    return group_rows(named, "ID")


def _read_row(
    config: UcsfConfig, data_set: DataSetFiles, name: str, rows: Sequence[Mapping[str, str]]
) -> ReaderResult:
    table = data_set.table
    cells = [row[STATUS] for row in rows]
    folders = data_set.folders.get(name, ())
    fault = row_problem(name, table, STATUS, cells)
    fault = fault or duplicate_folder_problem(name, folders)
    if fault and fault.kind != "unknown_label":
        return ReaderResult(problems=(fault,))
    if FOLLOW_UP in name or not rows:
        return exclude_subject(name, "follow-up scan" if FOLLOW_UP in name else NOT_IN_TABLE)
    (row,) = rows
    grade = read_grade(row[GRADE]) if config.grades else None
    if config.grades and grade is None and not is_unknown(row[GRADE]):
        found = f"{GRADE} is {row[GRADE]!r}"
        fault = Problem(name, "unknown_label", str(table), found, f"Write 1 to 4 in {GRADE}")
    elif config.grades and grade not in config.grades:
        return exclude_subject(name, f"WHO grade {grade or 'not given'}")
    if fault:
        return ReaderResult(problems=(fault,))
    label = read_label(cells[0])
    if label is None:
        return exclude_subject(name, f"MGMT {cells[0].lower() or 'not given'}")
    return _read_scans(config, table, folders, name, row, label)


def read_grade(cell: str) -> int | None:
    """Return the WHO grade in a cell, 1 to 4; None where there is none.

    >>> read_grade("4.0"), read_grade("WHO grade IV"), read_grade("high")
    (4, 4, None)
    """
    match = re.fullmatch(
        r"(?:WHO )?(?:grade )?(?:([1-4])(?:\.0*)?|(I{1,3}|IV))", cell, re.IGNORECASE
    )
    if not match:
        return None
    return int(match[1]) if match[1] else ROMAN.index(match[2].upper()) + 1


def _read_scans(
    config: UcsfConfig,
    table: Path,
    folders: Sequence[Path],
    name: str,
    row: Mapping[str, str],
    label: int,
) -> ReaderResult:
    if not folders:
        return exclude_subject(name, "no scans")
    folder = folders[0]
    scans = {m: path for m in SCAN_NAMES if (path := _find(folder, name, scan_name(name, m)))}
    if reason := reason_without_scans(scans, config):
        return exclude_subject(name, reason)
    cell = row.get(BRATS21_ID, "")
    brats21 = case_number(cell)
    if not brats21 and not is_unknown(cell):
        found = f"{BRATS21_ID} is {cell!r}, not like BraTS2021_00097"
        remedy = "Fix or empty the cell: it identifies subjects that are in both data sets"
        return ReaderResult(problems=(Problem(name, "wrong_format", str(table), found, remedy),))
    # the reader of BraTS21 gives the same case the same person
    person = f"BraTS2021_{brats21}" if brats21 else name
    mask = _find(folder, name, mask_name(name))
    fault = None if mask else missing_mask_problem(name, folder / mask_name(name))
    subject = Subject(name, label, scans, mask, known_cells(row, COVARIATES), person)
    return subject_result(subject, config, folder, fault)


def _find(folder: Path, subject: str, file: str) -> Path | None:
    """Find a file that starts with the subject's id, or with its folder's name."""
    renamed = folder.name.strip().removesuffix("_nifti") + file.removeprefix(subject)
    return find_nifti(folder / file) or find_nifti(folder / renamed)
