"""Any group's own data: one plain table that names each subject's label, scans and mask."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import FIXED_COLUMNS, Exclusion
from mgmt_ray.cohort.problem import GET_AGAIN, Problem
from mgmt_ray.cohort.reader import ReaderConfig, Reading, complete_groups, read_rows
from mgmt_ray.cohort.subject import MODALITIES, Subject, group_of

NEEDED = ("subject", "label", "mask")
OWN_COLUMNS = (*NEEDED, "person")
DELIMITERS = (",", ";", "\t")
SUBJECT_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
LABELS = {"1": 1, "methylated": 1, "positive": 1, "0": 0, "unmethylated": 0, "negative": 0}
NO_LABEL = ("", "unknown", "indeterminate", "not available", "na")


class TableConfig(ReaderConfig):
    """A folder with a table; the study names its modalities, each a column of file names."""

    reader: Literal["table"]
    table: str = Field(
        "cohort.csv",
        description="CSV in root with the columns subject, label, mask, one per modality, and "
        "perhaps person; every other column is a covariate",
    )
    mask_labels: tuple[int, ...] = Field(
        (1, 2, 3, 4), description="labels a mask may have beside 0"
    )


def read_table_cohort(config: TableConfig) -> Reading:
    """The subjects of a table, sorted by id.

    Cells name files, or folders of a DICOM series, absolutely or from ``root``; an empty one says
    that the subject has no such scan. Columns of the paper's modalities that the study does not ask
    for are no covariates, nor is a column without a name (as pandas writes for its index).

    Raises:
        MgmtError: no table, a column is missing, twice there or of a reserved name, or an id is
            unfit for a file name.
    """
    path = config.root / config.table
    delimiter, columns = _header(path)
    rows = read_rows(path, (*NEEDED, *config.modalities), delimiter)
    _check_columns(path, columns, config.modalities)
    _check_ids(path, [row["subject"] for row in rows])
    by_id: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_id.setdefault(row["subject"], []).append(row)
    subjects: list[Subject] = []
    exclusions: list[Exclusion] = []
    problems: list[Problem] = []
    for name, own in sorted(by_id.items()):
        fault = _fault(path, name, own)
        if fault:
            problems.append(fault)
            continue
        subject, lacks, missing = _read_subject(config, path, own[0])
        exclusions += lacks
        problems += missing
        subjects += [subject] if subject else []
    return Reading(tuple(subjects), tuple(exclusions), tuple(problems))


def _header(path: Path) -> tuple[str, list[str]]:
    """What parts the cells (Excel writes semicolons in much of Europe), and the columns."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError):
        return DELIMITERS[0], []  # reading the rows says what is wrong
    delimiter = max(DELIMITERS, key=line.count)
    rows = list(csv.reader([line], delimiter=delimiter))
    return delimiter, [cell.strip() for cell in rows[0]] if rows else []


def _check_columns(path: Path, columns: Sequence[str], modalities: Sequence[str]) -> None:
    twice = sorted(name for name, count in Counter(columns).items() if name and count > 1)
    if twice:
        raise MgmtError(
            f"{path}: has column {', '.join(twice)} more than once. Keep the right one."
        )
    reserved = [name for name in modalities if name in FIXED_COLUMNS]
    reserved += [c for c in columns if c in FIXED_COLUMNS and c not in (*OWN_COLUMNS, *reserved)]
    if reserved:
        raise MgmtError(
            f"{path}: column {', '.join(reserved)} is neither scans nor a covariate; the name is "
            "used in the study's own cohort.csv. Rename the column (and the modality)."
        )


def _check_ids(path: Path, names: Sequence[str]) -> None:
    strange = sorted({repr(name) for name in names if not SUBJECT_ID.fullmatch(name)})
    if strange:
        more = f" and {len(strange) - 10} more" if len(strange) > 10 else ""
        raise MgmtError(
            f"{path}: subject {', '.join(strange[:10])}{more} cannot name files. Write ids of "
            "letters (A to Z), digits, dots, underscores and hyphens that begin with none of . -"
        )


def _fault(path: Path, subject: str, rows: Sequence[Mapping[str, str]]) -> Problem | None:
    """What is wrong with a subject's row or rows, if anything is."""
    words = [row["label"].lower() for row in rows]
    if len(rows) > 1:
        meant = {None if word in NO_LABEL else LABELS.get(word, word) for word in words}
        if len(meant) > 1:
            found = (
                f"{len(rows)} rows with labels {' and '.join(sorted({w or 'none' for w in words}))}"
            )
            return Problem(subject, "two_labels", str(path), found, "Keep the right row")
        found = f"{len(rows)} rows"
        return Problem(subject, "duplicated_subject", str(path), found, "Keep one row")
    if words[0] not in (*LABELS, *NO_LABEL):
        found = f"label is {rows[0]['label']!r}"
        known = ", ".join((*LABELS, *NO_LABEL[1:]))
        return Problem(subject, "unknown_label", str(path), found, f"Write one of {known}")
    return None


def _read_subject(
    config: TableConfig, path: Path, row: Mapping[str, str]
) -> tuple[Subject | None, list[Exclusion], list[Problem]]:
    name, word, wanted = row["subject"], row["label"].lower(), config.modalities
    if word in NO_LABEL:
        return None, [Exclusion(name, "cohort", f"MGMT {word or 'not given'}")], []
    named = {m: config.root / row[m] for m in wanted if row[m]}
    if not named:
        return None, [Exclusion(name, "cohort", "none of the study's modalities")], []
    found = {m: file for m, file in named.items() if file.exists()}
    scans, lacks, incomplete = complete_groups(name, found, wanted, path)
    missing = [_no_file(name, file, m) for m, file in named.items() if m not in found]
    # a file that is named and not there already stands for what its group lacks
    told = {group_of(problem.modality) for problem in missing}
    missing += [problem for problem in incomplete if group_of(problem.modality) not in told]
    mask = config.root / row["mask"]
    fault = _mask_fault(name, path, row["mask"], mask)
    if fault or not scans:
        return None, [], [*missing, fault] if fault else missing
    subject = Subject(
        name, LABELS[word], scans, mask, _covariates(row, wanted), row.get("person", "")
    )
    return subject, [lack for lack in lacks if lack.scope not in told], missing


def _no_file(subject: str, file: Path, modality: str = "") -> Problem:
    return Problem(subject, "no_file", str(file), "no such file", GET_AGAIN, modality)


def _mask_fault(subject: str, path: Path, cell: str, mask: Path) -> Problem | None:
    if not cell:
        remedy = "Fill in the column mask, or leave the subject out with cohort.exclude"
        return Problem(subject, "no_mask", str(path), "no tumour mask is named", remedy)
    return None if mask.exists() else _no_file(subject, mask)


def _covariates(row: Mapping[str, str], modalities: Sequence[str]) -> dict[str, str]:
    others = {"", *OWN_COLUMNS, *MODALITIES, *modalities}
    return {name: value for name, value in row.items() if value and name not in others}
