"""Patients of whom nobody knows the methylation: scans, perhaps a mask, and no label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import read_rows, row_problem
from mgmt_ray.cohort.dataset_files import find_nifti, is_folder, list_folder
from mgmt_ray.cohort.plain_table import DELIMITERS, NO_PERSON, SUBJECT_ID, row_covariates
from mgmt_ray.cohort.problem import DOWNLOAD_AGAIN, Problem
from mgmt_ray.cohort.reader import ReaderResult, merge_results
from mgmt_ray.cohort.subject import Subject

TABLE = "cohort.csv"
MASK = "mask"
NO_LABEL = 0
"""Stands where a label has to be; nothing may follow from it."""


def read_patients(folder: Path, modalities: Sequence[str]) -> ReaderResult:
    """The patients of a folder; what is wrong with one of them is a problem and stops no other.

    The folder holds ``cohort.csv`` (the table of a cohort; a column of labels is not read), or one
    folder per patient with ``MODALITY.nii.gz`` (or a folder ``MODALITY`` with a DICOM series) and,
    where there is a mask, ``mask.nii.gz``.

    Args:
        folder: of the patients.
        modalities: that any model takes; a patient needs one of them at least.

    Raises:
        MgmtError: no such folder, nobody in it, or a table without the columns of one.
    """
    if not is_folder(folder):
        raise MgmtError(f"{folder}: no such folder. Give the folder of the patients' scans.")
    if (folder / TABLE).is_file():
        result = merge_results(_from_table(folder, modalities))
    else:
        named = [path for path in list_folder(folder) if is_folder(path) and path.name[0] != "."]
        result = merge_results(_from_folder(path, modalities) for path in named)
    if not result.subjects and not result.problems:
        like = f"P001/{modalities[0]}.nii.gz"
        raise MgmtError(
            f"{folder}: nobody there. Put the scans of each patient into a folder, like {like}, or "
            f"write a table {TABLE} with the columns subject and {', '.join(modalities)}."
        )
    return result


def _from_table(folder: Path, modalities: Sequence[str]) -> list[ReaderResult]:
    path = folder / TABLE
    columns, rows = read_rows(path, ("subject",), DELIMITERS)
    known = [m for m in modalities if m in columns]
    if not known:
        raise MgmtError(
            f"{path}: has no column of scans that the study takes ({', '.join(modalities)}). Name "
            "the columns of scans so."
        )
    by_id: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_id.setdefault(row["subject"], []).append(row)
    readings = []
    for name, own in sorted(by_id.items()):
        row = own[0]
        scans = {m: folder / row[m] for m in known if row[m]}
        mask = folder / row[MASK] if row.get(MASK) else None
        person = row.get("person", "")
        subject = Subject(
            name,
            NO_LABEL,
            scans,
            mask,
            row_covariates({k: v for k, v in row.items() if k != "label"}, known),
            "" if person.lower() in NO_PERSON else person,
        )
        # of several rows of one patient none is known to be right
        fault = row_problem(name, path, "label", ["" for _ in own], {"": None})
        readings.append(
            ReaderResult(problems=(fault,)) if fault else _read_one(subject, path, known)
        )
    return readings


def _from_folder(folder: Path, modalities: Sequence[str]) -> ReaderResult:
    scans = {m: path for m in modalities if (path := _scan(folder, m))}
    subject = Subject(folder.name, NO_LABEL, scans, find_nifti(folder / f"{MASK}.nii.gz"))
    return _read_one(subject, folder, modalities)


def _scan(folder: Path, modality: str) -> Path | None:
    series = folder / modality
    return find_nifti(folder / f"{modality}.nii.gz") or (series if is_folder(series) else None)


def _read_one(subject: Subject, where: Path, modalities: Sequence[str]) -> ReaderResult:
    if not SUBJECT_ID.fullmatch(subject.id):
        found = "an id that cannot name files"
        remedy = "Write up to 100 letters (A to Z), digits, dots, underscores and hyphens"
        return ReaderResult(
            problems=(Problem(subject.id, "wrong_format", str(where), found, remedy),)
        )
    if not subject.scans:
        found = f"no scan that the study takes ({', '.join(modalities)})"
        remedy = f"Name scans like {modalities[0]}.nii.gz"
        return ReaderResult(
            problems=(Problem(subject.id, "missing_modality", str(where), found, remedy),)
        )
    files = [*subject.scans.values(), *([subject.mask] if subject.mask else [])]
    absent = [path for path in files if not path.exists()]
    if absent:
        fault = Problem(subject.id, "no_file", str(absent[0]), "no such file", DOWNLOAD_AGAIN)
        return ReaderResult(problems=(fault,))
    return ReaderResult((subject,))
