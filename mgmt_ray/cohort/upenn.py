"""The UPENN-GBM data set: its clinical table (versions 1.0 and 2.1), scans and tumour masks.

Bakas et al. 2022, "The University of Pennsylvania glioblastoma (UPenn-GBM) cohort: advanced MRI,
clinical, genomics, & radiomics".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import (
    AS_DOWNLOADED,
    group_rows,
    join_first,
    known_cells,
    read_label,
    read_rows,
    row_problem,
)
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
    ReaderResult,
    TwoMasksConfig,
    exclude_subject,
    merge_results,
    missing_mask_problem,
    reason_without_scans,
    subject_result,
)
from mgmt_ray.cohort.subject import MODALITIES, Subject, modality_group

CLINICAL_TABLE = "UPENN-GBM_clinical_info_*.csv"
COVARIATES = {
    "age": "Age_at_scan_years",
    "sex": "Gender",
    "idh1": "IDH1",
    "kps": "KPS",
    "gross_total_resection": "GTR_over90percent",
}
"""Column of each covariate; age is in years, the resection is whether over 90 % was removed."""

FOLDERS = {"Struct": "images_structural", "DTI": "images_DTI", "DSC": "images_DSC"}
"""Folder of each modality group; some copies nest it twice (``images_DTI/images_DTI``)."""

SUBJECT_ID = re.compile(r"UPENN-GBM-\d{5}_\d{2}")
BASELINE = "_11"
SUBJECT_FOLDERS = re.compile(r"images_|automated_segm|UPENN-GBM-\d{5}")
"""Start of the names of folders with subjects, which need not be searched for images."""


class UpennConfig(TwoMasksConfig):
    """A copy of UPENN-GBM."""

    available_modalities = MODALITIES
    reader: Literal["upenn"]


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
    images, table = _find_images_and_table(config.root)
    rows = _rows_by_id(table)
    results = []
    for name in sorted(rows.keys() | set(_ids_on_disk(images))):
        cells = [row["MGMT"] for row in rows.get(name, [])]
        if fault := row_problem(name, table, "MGMT", cells):
            results.append(ReaderResult(problems=(fault,)))
        else:
            row = rows[name][0] if name in rows else None
            results.append(_read_subject(config, images, name, row))
    return merge_results(results)


def _find_images_and_table(root: Path) -> tuple[Path, Path]:
    """Find the images and the newest clinical table at or below a folder."""
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
    return images[0], newest_table(root, CLINICAL_TABLE, paths, "clinical table")


def _rows_by_id(path: Path) -> dict[str, list[dict[str, str]]]:
    _, rows = read_rows(path, ("ID", "MGMT"), COVARIATES.values(), AS_DOWNLOADED)
    invalid = [repr(row["ID"]) for row in rows if not SUBJECT_ID.fullmatch(row["ID"])]
    if invalid:
        raise MgmtError(
            f"{path}: ids {join_first(invalid)} do not look like UPENN-GBM-00001_11. "
            "Use the table as downloaded; a spreadsheet may have changed it."
        )
    return group_rows(rows, "ID")


def _group_folders(images: Path, group: str) -> tuple[Path, Path]:
    folder = images / FOLDERS[group]
    return folder, folder / FOLDERS[group]


def _ids_on_disk(images: Path) -> Iterator[str]:
    for group in FOLDERS:
        for folder in _group_folders(images, group):
            if is_folder(folder):
                yield from (c.name for c in list_folder(folder) if SUBJECT_ID.fullmatch(c.name))


def _read_subject(
    config: UpennConfig, images: Path, name: str, row: Mapping[str, str] | None
) -> ReaderResult:
    if not name.endswith(BASELINE):
        return exclude_subject(name, "follow-up scan")
    if row is None:
        return exclude_subject(name, "not in the clinical table")
    label = read_label(row["MGMT"])
    if label is None:
        return exclude_subject(name, f"MGMT {row['MGMT'] or 'not given'}")
    scans = _scans(images, name)
    if reason := reason_without_scans(scans, config, "no baseline scans"):
        return exclude_subject(name, reason)
    if fault := _duplicate_folder_problem(images, name):
        return ReaderResult(problems=(fault,))
    covariates = known_cells(row, COVARIATES)
    automatic = automatic_mask(images, name)
    corrected = find_nifti(corrected_mask(images, name)) if config.corrected_masks else None
    if mask := corrected:
        covariates["mask_kind"] = "corrected"
    elif mask := find_nifti(automatic):
        covariates["mask_kind"] = "automatic"
    else:
        found = "no tumour mask, neither corrected nor automatic"
        if not config.corrected_masks:
            found = "no automatic tumour mask, and cohort.corrected_masks is false"
        remedy = "Copy automated_segm/ and images_segm/"
        fault = missing_mask_problem(name, automatic, found, remedy)
    subject = Subject(name, label, scans, mask, covariates, name.rpartition("_")[0])
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
