"""Your own data: one plain table with each subject's label, scans and mask."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from mgmt_ray.base import MgmtError, expand_path
from mgmt_ray.cohort.cohort import FIXED_COLUMNS
from mgmt_ray.cohort.csv_rows import (
    group_rows,
    is_unknown,
    join_first,
    read_label,
    read_rows,
    row_problem,
)
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import (
    MaskLabels,
    ReaderConfig,
    ReaderResult,
    exclude_subject,
    merge_results,
    missing_mask_problem,
    subject_result,
)
from mgmt_ray.cohort.subject import MODALITIES, Subject

NEEDED = ("subject", "label")
RESERVED_COLUMNS = (*NEEDED, "mask", "person")
OPTIONAL = ("mask", "person", "age", "sex")
"""Further columns with a meaning, in any case."""

SUBJECT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


class TableConfig(ReaderConfig):
    """A folder with a table, in which each modality of the study is a column of file names."""

    reader: Literal["table"]
    table: str = Field(
        "cohort.csv",
        description="CSV in root with the columns subject, label, mask (not needed where masks are "
        "predicted), one per modality, and optionally person; every other column is a covariate",
    )
    mask_labels: MaskLabels = Field(
        (1, 2, 3, 4),
        description="labels that a mask may have in addition to 0; brats2021, brats2023 or a "
        "mapping say which is which, as the baseline radiomics_forest needs it",
    )

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Each modality alone: an empty cell means that only this modality is missing."""
        return {modality: (modality,) for modality in self.modalities}


def read_table_cohort(config: TableConfig) -> ReaderResult:
    """Read the subjects of a table, sorted by id.

    Cells are paths of files, or of folders of a DICOM series, absolute or relative to ``root``; an
    empty cell, or a word for unknown like NA, means that the subject has no such scan. Columns of
    the paper's modalities that the study does not use are not covariates, nor is a column without a
    name (pandas' index).

    Raises:
        MgmtError: no table, or no rows; a column is missing, duplicated or reserved; a row is
            truncated; or an id cannot be used in file names.
    """
    path = config.root / config.table
    mask_column = ("mask",) if config.mask == "given" else ()
    columns, rows = read_rows(path, (*NEEDED, *mask_column, *config.modalities), OPTIONAL)
    _check_columns(path, columns)
    if not rows:
        raise MgmtError(f"{path}: has no rows below its header. Write a row for each subject.")
    _check_ids(path, [row["subject"] for row in rows])
    by_id = sorted(group_rows(rows, "subject").items())
    faults = same_in_other_case([name for name, _ in by_id], path)
    return merge_results(
        ReaderResult(problems=(faults[name],))
        if name in faults
        else _read_subject(config, path, name, rows)
        for name, rows in by_id
    )


def same_in_other_case(names: Sequence[str], where: Path) -> dict[str, Problem]:
    """Return the problems of ids that another one equals but for its case, by id."""
    spellings = Counter(name.casefold() for name in names)
    found = "another subject has the same id in other case"
    remedy = "Keep one of them, or give different subjects different ids"
    return {
        name: Problem(name, "duplicated_subject", str(where), found, remedy)
        for name in names
        if spellings[name.casefold()] > 1
    }


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    reserved = [c for c in columns if c in FIXED_COLUMNS and c not in RESERVED_COLUMNS]
    if reserved:
        raise MgmtError(
            f"{path}: column {', '.join(reserved)} cannot be a covariate; the study's own "
            "cohort.csv uses the name. Rename the column."
        )


def _check_ids(path: Path, names: Sequence[str]) -> None:
    invalid = sorted({repr(name) for name in names if not SUBJECT_ID.fullmatch(name)})
    if invalid:
        raise MgmtError(
            f"{path}: subject {join_first(invalid)} cannot be used in file names. Write ids of up "
            "to 100 letters (A to Z), digits, dots, underscores and hyphens that start with a "
            "letter, digit or underscore."
        )


def _read_subject(
    config: TableConfig, path: Path, name: str, rows: Sequence[Mapping[str, str]]
) -> ReaderResult:
    row, cells = rows[0], [row["label"] for row in rows]
    if fault := row_problem(name, path, "label", cells):
        return ReaderResult(problems=(fault,))
    label = read_label(cells[0])
    if label is None:
        return exclude_subject(name, f"MGMT {cells[0].lower() or 'not given'}")
    subject = row_subject(row, label, config.root, config.modalities)
    if not subject.scans:
        return exclude_subject(name, "none of the study's modalities")
    remedy = "Fill in the column mask"
    fault = None if subject.mask else missing_mask_problem(name, path, "no tumour mask", remedy)
    return subject_result(subject, config, path, fault)


def row_subject(
    row: Mapping[str, str], label: int, root: Path, modalities: Sequence[str]
) -> Subject:
    """Return the subject of a row, with a label that was found out and paths below a folder.

    >>> row = {"subject": "P1", "FLAIR": "f.nii.gz", "age": "61", "site": ""}
    >>> row_subject(row, 1, Path(), ["FLAIR"]).covariates
    {'age': '61'}
    """
    person = row.get("person", "")
    no_covariates = {"", *RESERVED_COLUMNS, *MODALITIES, *modalities}
    return Subject(
        row["subject"],
        label,
        {m: expand_path(row[m], root) for m in modalities if not is_unknown(row[m])},
        None if is_unknown(row.get("mask", "")) else expand_path(row["mask"], root),
        {name: cell for name, cell in row.items() if cell and name not in no_covariates},
        "" if is_unknown(person) else person,
    )
