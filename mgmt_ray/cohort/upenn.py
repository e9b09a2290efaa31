"""The UPENN-GBM data set: its clinical table (versions 1.0 and 2.1), scans and tumour masks.

Bakas et al. 2022, "The University of Pennsylvania glioblastoma (UPenn-GBM) cohort: advanced MRI,
clinical, genomics, & radiomics".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import group_rows, join_first, read_rows, row_problem
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
"""Label of each value of the column MGMT; None where it is unknown."""

COVARIATES = {
    "age": "Age_at_scan_years",
    "sex": "Gender",
    "idh1": "IDH1",
    "kps": "KPS",
    "gross_total_resection": "GTR_over90percent",
}
"""Column of each covariate; age is in years, the resection is whether over 90 % was removed."""

UNKNOWN = ("", "Not Available")

FOLDERS = {"Struct": "images_structural", "DTI": "images_DTI", "DSC": "images_DSC"}
"""Folder of each modality group; some copies nest it twice (``images_DTI/images_DTI``)."""

SUBJECT_ID = re.compile(r"UPENN-GBM-\d{5}_\d{2}")
BASELINE = "_11"
SUBJECT_FOLDERS = re.compile(r"images_|automated_segm|UPENN-GBM-\d{5}")
"""Start of the names of folders with subjects, which :func:`find_layout` need not search."""


class UpennConfig(ReaderConfig):
    """A copy of UPENN-GBM."""

    available_modalities = MODALITIES
    reader: Literal["upenn"]


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """The clinical table's row of one scan session.

    Attributes:
        subject: id with the session's suffix, like ``UPENN-GBM-00001_11``.
        mgmt: status as the table spells it.
        label: 1 methylated, 0 unmethylated, None for neither.
        covariates: as text, without unknown ones.
    """

    subject: str
    mgmt: str
    label: int | None
    covariates: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a copy of the data set has its images and its clinical table."""

    images: Path
    table: Path


def scan_name(subject: str, modality: str) -> str:
    """Return the file name of a subject's scan.

    >>> scan_name("UPENN-GBM-00001_11", "FA")
    'UPENN-GBM-00001_11_DTI_FA.nii.gz'
    """
    group = modality_group(modality)
    middle = "" if group == "Struct" else f"{group}_"
    return f"{subject}_{middle}{modality}.nii.gz"


def scan_file(subject: str, modality: str) -> Path:
    """Return a scan's path below ``NIfTI-files``, where no folder is nested twice."""
    return Path(FOLDERS[modality_group(modality)], subject, scan_name(subject, modality))


def corrected_mask(images: Path, subject: str) -> Path:
    """Return the path of the manually corrected tumour mask, which not every subject has."""
    return images / "images_segm" / f"{subject}_segm.nii.gz"


def automatic_mask(images: Path, subject: str) -> Path:
    """Return the path of the automatic tumour mask."""
    return images / "automated_segm" / f"{subject}_automated_approx_segm.nii.gz"


def read_upenn(config: UpennConfig) -> ReaderResult:
    """Read baseline subjects with an MGMT status, a tumour mask and a scan of the study.

    Every id in the clinical table or on disk appears in the result. Follow-ups, a status that is
    neither methylated nor unmethylated, and rows without scans belong to the data set: they are
    excluded with the reason and are not problems.

    Raises:
        MgmtError: the folder, the images, the table or one of its columns is missing.
    """
    layout = find_layout(config.root)
    rows, problems = read_clinical_table(layout.table, SUBJECT_ID)
    faulty = {problem.subject for problem in problems}
    names = sorted((rows.keys() | set(_ids_on_disk(layout.images))) - faulty)
    results = (_read_subject(config, layout.images, name, rows.get(name)) for name in names)
    return merge_results((ReaderResult(problems=tuple(problems)), *results))


def find_layout(root: Path) -> Layout:
    """Find the images and the newest clinical table at or below a folder.

    Raises:
        MgmtError: the images or the table are missing or exist several times, or a folder is
            unreadable.
    """
    paths = paths_below(root, "UPENN-GBM", "NIfTI-files/ and the clinical table", SUBJECT_FOLDERS)
    names = FOLDERS.values()
    images = sorted({p.parent for p in paths if p.name in names and is_folder(p)})
    if not images:
        raise MgmtError(
            f"{root}: no UPENN-GBM images; looked for NIfTI-files/ with {' or '.join(names)} "
            f"down to {SEARCH_DEPTH} levels below. Give the folder above NIfTI-files/."
        )
    if len(images) > 1:
        raise MgmtError(
            f"{root}: UPENN-GBM images in more than one place ({', '.join(map(str, images))}). "
            "Give the folder of the right copy."
        )
    return Layout(images[0], newest_table(root, CLINICAL_TABLE, paths, "clinical table"))


def read_clinical_table(
    path: Path, subject_id: re.Pattern[str]
) -> tuple[dict[str, ClinicalRow], list[Problem]]:
    """Read a clinical table of any version by its column names.

    Args:
        path: the CSV file.
        subject_id: pattern of every id.

    Returns:
        A row by subject id, and a problem for each id that has several rows or an unknown MGMT
        status; such an id has no row.

    Raises:
        MgmtError: not a table, a column is missing, or an id does not match the pattern.
    """
    _, rows = read_rows(path, ("ID", "MGMT"))
    invalid = [repr(row["ID"]) for row in rows if not subject_id.fullmatch(row["ID"])]
    if invalid:
        raise MgmtError(
            f"{path}: ids {join_first(invalid)} do not look like UPENN-GBM-00001_11. "
            "Use the table as downloaded; a spreadsheet may have changed it."
        )
    by_id = group_rows(rows, "ID")
    faults = (
        row_problem(name, path, "MGMT", [row["MGMT"] for row in subject_rows], LABELS)
        for name, subject_rows in by_id.items()
    )
    problems = [fault for fault in faults if fault]
    faulty = {problem.subject for problem in problems}
    return {
        name: _clinical_row(subject_rows[0])
        for name, subject_rows in by_id.items()
        if name not in faulty
    }, problems


def _clinical_row(row: Mapping[str, str]) -> ClinicalRow:
    covariates = {
        name: row[column]
        for name, column in COVARIATES.items()
        if row.get(column, "") not in UNKNOWN
    }
    return ClinicalRow(row["ID"], row["MGMT"], LABELS[row["MGMT"]], covariates)


def _group_folders(images: Path, group: str) -> tuple[Path, Path]:
    folder = images / FOLDERS[group]
    return folder, folder / FOLDERS[group]


def _ids_on_disk(images: Path) -> Iterator[str]:
    for group in FOLDERS:
        for folder in _group_folders(images, group):
            if is_folder(folder):
                yield from (c.name for c in list_folder(folder) if SUBJECT_ID.fullmatch(c.name))


def _read_subject(
    config: UpennConfig, images: Path, name: str, row: ClinicalRow | None
) -> ReaderResult:
    scans = _scans(images, name)
    reason = _reason_to_exclude(name, row, scans, config.modalities)
    if reason or row is None or row.label is None:
        return exclude_subject(name, reason)
    if fault := _duplicate_folder_problem(images, name):
        return ReaderResult(problems=(fault,))
    mask, kind = _mask(images, name)
    covariates = {**row.covariates, **({"mask_kind": kind} if kind else {})}
    subject = Subject(name, row.label, scans, mask, covariates, name.rpartition("_")[0])
    fault = None if mask else _missing_mask_problem(automatic_mask(images, name), name)
    return subject_result(subject, config, images, fault)


def _scans(images: Path, subject: str) -> dict[str, Path]:
    scans = {}
    for modality in MODALITIES:
        for folder in _group_folders(images, modality_group(modality)):
            if path := find_nifti(folder / subject / scan_name(subject, modality)):
                scans[modality] = path
                break
    return scans


def _duplicate_folder_problem(images: Path, subject: str) -> Problem | None:
    """Return the problem of a subject with scans of one group in both of its nested folders."""
    for group in FOLDERS:
        folders = (folder / subject for folder in _group_folders(images, group))
        if fault := duplicate_folder_problem(
            subject, tuple(folder for folder in folders if is_folder(folder))
        ):
            return fault
    return None


def _reason_to_exclude(
    subject: str, row: ClinicalRow | None, scans: Mapping[str, Path], modalities: tuple[str, ...]
) -> str:
    if not subject.endswith(BASELINE):
        return "follow-up scan"
    if row is None:
        return "not in the clinical table"
    if row.label is None:
        return f"MGMT {row.mgmt}"
    if not set(modalities) & set(scans):
        return "no baseline scans" if not scans else "none of the study's modalities"
    return ""


def _mask(images: Path, subject: str) -> tuple[Path | None, str]:
    """Return the preferred mask and its kind, if there is one."""
    candidates = {
        "corrected": corrected_mask(images, subject),
        "automatic": automatic_mask(images, subject),
    }
    for kind, candidate in candidates.items():
        if path := find_nifti(candidate):
            return path, kind
    return None, ""


def _missing_mask_problem(path: Path, subject: str) -> Problem:
    remedy = "Copy automated_segm/ and images_segm/, or leave the subject out with cohort.exclude"
    found = "no tumour mask, neither corrected nor automatic"
    return missing_mask_problem(subject, path, found, remedy)
