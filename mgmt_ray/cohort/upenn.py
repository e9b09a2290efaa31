"""The clinical table of UPENN-GBM, versions 1.0 and 2.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import read_rows, row_problem
from mgmt_ray.cohort.dataset_files import (
    SEARCH_DEPTH,
    duplicate_folder_problem,
    find_nifti,
    is_folder,
    list_folder,
    newest_table,
    paths_below,
)
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import (
    ReaderConfig,
    ReaderResult,
    exclude_subject,
    merge_results,
    missing_mask_problem,
    subject_result,
)
from mgmt_ray.cohort.subject import MODALITIES, Subject, modality_group

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
        row_problem(name, path, "MGMT", [row["MGMT"] for row in own], LABELS)
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


FOLDERS = {"Struct": "images_structural", "DTI": "images_DTI", "DSC": "images_DSC"}
"""Folder of each modality group; some copies hold it twice (``images_DTI/images_DTI``)."""

SUBJECT_ID = re.compile(r"UPENN-GBM-\d{5}_\d{2}")
BASELINE = "_11"
OF_SUBJECTS = re.compile(r"images_|automated_segm|UPENN-GBM-\d{5}")
"""Folders that hold subjects: thousands, and never what :func:`find_layout` looks for."""


class UpennConfig(ReaderConfig):
    """A copy of UPENN-GBM."""

    available_modalities = MODALITIES
    reader: Literal["upenn"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a copy of the data set keeps its images and its clinical table."""

    images: Path
    table: Path


def scan_name(subject: str, modality: str) -> str:
    """File name of a subject's scan, like ``UPENN-GBM-00001_11_DTI_FA.nii.gz``."""
    group = modality_group(modality)
    middle = "" if group == "Struct" else f"{group}_"
    return f"{subject}_{middle}{modality}.nii.gz"


def scan_file(subject: str, modality: str) -> Path:
    """Where a scan is below ``NIfTI-files`` (where no folder is doubled)."""
    return Path(FOLDERS[modality_group(modality)], subject, scan_name(subject, modality))


def corrected_mask(images: Path, subject: str) -> Path:
    """Where a tumour mask corrected by hand is, if there is one."""
    return images / "images_segm" / f"{subject}_segm.nii.gz"


def automatic_mask(images: Path, subject: str) -> Path:
    """Where the automatic tumour mask is, if there is one."""
    return images / "automated_segm" / f"{subject}_automated_approx_segm.nii.gz"


def read_upenn(config: UpennConfig) -> ReaderResult:
    """Baseline subjects with an MGMT status, a tumour mask and at least one group of scans.

    Everyone in the clinical table or on disk is found. A follow-up, a status that is neither
    methylated nor unmethylated, and a row without scans are no faults of a copy but what the data
    set is: they are excluded with the reason.

    Raises:
        MgmtError: no such folder, images or table, or a table without the columns of one.
    """
    layout = find_layout(config.root)
    rows, problems = read_clinical_table(layout.table, SUBJECT_ID)
    faulty = {problem.subject for problem in problems}
    names = sorted((rows.keys() | set(_ids_on_disk(layout.images))) - faulty)
    parts = (_read_one(config, layout.images, name, rows.get(name)) for name in names)
    return merge_results((ReaderResult(problems=tuple(problems)), *parts))


def find_layout(root: Path) -> Layout:
    """Find the images and the newest clinical table at or below a folder.

    Raises:
        MgmtError: one of them is not there or there twice, or a folder cannot be read.
    """
    paths = paths_below(root, "UPENN-GBM", "NIfTI-files/ and the clinical table", OF_SUBJECTS)
    names = FOLDERS.values()
    images = sorted({p.parent for p in paths if p.name in names and is_folder(p)})
    if not images:
        raise MgmtError(
            f"{root}: no UPENN-GBM images; looked for NIfTI-files/ with {_join_with_or(names)} "
            f"down to {SEARCH_DEPTH} levels below. Give the folder above NIfTI-files/."
        )
    if len(images) > 1:
        raise MgmtError(
            f"{root}: UPENN-GBM images in more than one place ({', '.join(map(str, images))}). "
            "Give the folder of the copy that is meant."
        )
    return Layout(images[0], newest_table(root, CLINICAL_TABLE, paths, "clinical table"))


def _group_folders(images: Path, group: str) -> tuple[Path, Path]:
    folder = images / FOLDERS[group]
    return folder, folder / FOLDERS[group]


def _ids_on_disk(images: Path) -> Iterator[str]:
    for group in FOLDERS:
        for folder in _group_folders(images, group):
            if is_folder(folder):
                yield from (c.name for c in list_folder(folder) if SUBJECT_ID.fullmatch(c.name))


def _read_one(
    config: UpennConfig, images: Path, name: str, row: ClinicalRow | None
) -> ReaderResult:
    found = _scans(images, name)
    reason = _reason_to_exclude(name, row, found, config.modalities)
    if reason or row is None or row.label is None:
        return exclude_subject(name, reason)
    if fault := _duplicate_folder_problem(images, name):
        return ReaderResult(problems=(fault,))
    mask, kind = _mask(images, name)
    covariates = {**row.covariates, **({"mask_kind": kind} if kind else {})}
    subject = Subject(name, row.label, found, mask, covariates, name.rpartition("_")[0])
    fault = None if mask else _missing_mask_problem(automatic_mask(images, name), name)
    return subject_result(subject, config, images, fault)


def _scans(images: Path, subject: str) -> dict[str, Path]:
    found = {}
    for modality in MODALITIES:
        for folder in _group_folders(images, modality_group(modality)):
            if path := find_nifti(folder / subject / scan_name(subject, modality)):
                found[modality] = path
                break
    return found


def _duplicate_folder_problem(images: Path, subject: str) -> Problem | None:
    """A subject whose scans of one group are in both folders of a doubled one."""
    for group in FOLDERS:
        folders = (folder / subject for folder in _group_folders(images, group))
        if fault := duplicate_folder_problem(
            subject, tuple(folder for folder in folders if is_folder(folder))
        ):
            return fault
    return None


def _reason_to_exclude(
    subject: str, row: ClinicalRow | None, found: Mapping[str, Path], modalities: tuple[str, ...]
) -> str:
    if not subject.endswith(BASELINE):
        return "follow-up scan"
    if row is None:
        return "not in the clinical table"
    if row.label is None:
        return f"MGMT {row.mgmt}"
    if not set(modalities) & set(found):
        return "no baseline scans" if not found else "none of the study's modalities"
    return ""


def _mask(images: Path, subject: str) -> tuple[Path | None, str]:
    """The best mask and its kind, if there is one."""
    places = {
        "corrected": corrected_mask(images, subject),
        "automatic": automatic_mask(images, subject),
    }
    for kind, place in places.items():
        if path := find_nifti(place):
            return path, kind
    return None, ""


def _missing_mask_problem(where: Path, subject: str) -> Problem:
    remedy = "Copy automated_segm/ and images_segm/, or leave the subject out with cohort.exclude"
    found = "no tumour mask, neither corrected nor automatic"
    return missing_mask_problem(subject, where, found, remedy)


def _join_with_or(names: Iterable[str]) -> str:
    return " or ".join(names)
