"""Any group's own data: one plain table that names each subject's label, scans and mask."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import FIXED_COLUMNS
from mgmt_ray.cohort.csv_rows import read_rows, row_problem
from mgmt_ray.cohort.reader import (
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
DELIMITERS = ",;\t"
"""Excel writes semicolons in much of Europe."""

SUBJECT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
LABELS: dict[str, int | None] = {
    **dict.fromkeys(("1", "methylated", "positive"), 1),
    **dict.fromkeys(("0", "unmethylated", "negative"), 0),
    **dict.fromkeys(("", "unknown", "indeterminate", "not available", "na")),
}
"""What the column label may say, in any case, and the label it gives."""

NO_PERSON = ("", "unknown", "not available", "na", "n/a", "nan", "none", "null", "-", "?")
"""What a cell of the column person says where nobody knows, in any case."""


class TableConfig(ReaderConfig):
    """A folder with a table; the study names its modalities, each a column of file names."""

    reader: Literal["table"]
    table: str = Field(
        "cohort.csv",
        description="CSV in root with the columns subject, label, mask (not needed where masks are "
        "predicted), one per modality, and perhaps person; every other column is a covariate",
    )
    mask_labels: tuple[int, ...] = Field(
        (1, 2, 3, 4), description="labels a mask may have beside 0"
    )

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Each modality alone: an empty cell says that there is none of it, and nothing else."""
        return {modality: (modality,) for modality in self.modalities}


def read_table_cohort(config: TableConfig) -> ReaderResult:
    """The subjects of a table, sorted by id.

    Cells name files, or folders of a DICOM series, absolutely or from ``root``; an empty one says
    that the subject has no such scan. Columns of the paper's modalities that the study does not ask
    for are no covariates, nor is a column without a name (as pandas writes for its index).

    Raises:
        MgmtError: no table, a column is missing, twice there or of a reserved name, a row is cut
            off, or an id is unfit for a file name.
    """
    path = config.root / config.table
    of_masks = ("mask",) if config.mask == "given" else ()
    columns, rows = read_rows(path, (*NEEDED, *of_masks, *config.modalities), DELIMITERS)
    _check_columns(path, columns)
    _check_ids(path, [row["subject"] for row in rows])
    by_id: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_id.setdefault(row["subject"], []).append(row)
    return merge_results(_read_one(config, path, name, own) for name, own in sorted(by_id.items()))


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    reserved = [c for c in columns if c in FIXED_COLUMNS and c not in RESERVED_COLUMNS]
    if reserved:
        raise MgmtError(
            f"{path}: column {', '.join(reserved)} is neither scans nor a covariate; the name is "
            "used in the study's own cohort.csv. Rename the column."
        )


def _check_ids(path: Path, names: Sequence[str]) -> None:
    strange = sorted({repr(name) for name in names if not SUBJECT_ID.fullmatch(name)})
    if strange:
        more = f" and {len(strange) - 10} more" if len(strange) > 10 else ""
        raise MgmtError(
            f"{path}: subject {', '.join(strange[:10])}{more} cannot name files. Write ids of "
            "up to 100 letters (A to Z), digits, dots, underscores and hyphens that begin with "
            "none of . -"
        )


def _read_one(
    config: TableConfig, path: Path, name: str, rows: Sequence[Mapping[str, str]]
) -> ReaderResult:
    row, words = rows[0], [row["label"].lower() for row in rows]
    if fault := row_problem(name, path, "label", words, LABELS):
        return ReaderResult(problems=(fault,))
    label = LABELS[words[0]]
    if label is None:
        return exclude_subject(name, f"MGMT {words[0] or 'not given'}")
    named = {m: config.root / row[m] for m in config.modalities if row[m]}
    if not named:
        return exclude_subject(name, "none of the study's modalities")
    person = row.get("person", "")
    subject = Subject(
        name,
        label,
        named,
        config.root / row["mask"] if row.get("mask") else None,
        row_covariates(row, config.modalities),
        "" if person.lower() in NO_PERSON else person,
    )
    remedy = "Fill in the column mask, or leave the subject out with cohort.exclude"
    fault = (
        None
        if subject.mask
        else missing_mask_problem(name, path, "no tumour mask is named", remedy)
    )
    return subject_result(subject, config, path, fault)


def row_covariates(row: Mapping[str, str], modalities: Sequence[str]) -> dict[str, str]:
    """What a row tells beside its subject's label, files and name."""
    others = {"", *RESERVED_COLUMNS, *MODALITIES, *modalities}
    return {name: value for name, value in row.items() if value and name not in others}
