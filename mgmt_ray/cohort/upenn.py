"""The UPENN-GBM data set as The Cancer Imaging Archive gives it (version 2).

Bakas et al. 2022, "The University of Pennsylvania glioblastoma (UPenn-GBM) cohort". Scans are told
by their exact names: the raw series ``ID_DSC.nii.gz`` lies beside the maps made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Exclusion
from mgmt_ray.cohort.folders import SEARCH_DEPTH, version_of, walk
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import ReaderConfig, Reading, complete_groups
from mgmt_ray.cohort.subject import MODALITIES, Subject, group_of
from mgmt_ray.cohort.upenn_table import CLINICAL_TABLE, ClinicalRow, read_clinical_table

FOLDERS = {"Struct": "images_structural", "DTI": "images_DTI", "DSC": "images_DSC"}
"""Folder of each modality group; some copies hold it twice (``images_DTI/images_DTI``)."""

SUBJECT_ID = re.compile(r"UPENN-GBM-\d{5}_\d{2}")
BASELINE = "_11"
OF_SUBJECTS = re.compile(r"images_|automated_segm|UPENN-GBM-\d{5}|\.")
"""Folders that hold subjects: thousands, and never what :func:`find_layout` looks for."""


class UpennConfig(ReaderConfig):
    """A copy of UPENN-GBM."""

    offered = MODALITIES
    reader: Literal["upenn"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a copy of the data set keeps its images and its clinical table."""

    images: Path
    table: Path


def scan_name(subject: str, modality: str) -> str:
    """File name of a subject's scan, like ``UPENN-GBM-00001_11_DTI_FA.nii.gz``."""
    group = group_of(modality)
    middle = "" if group == "Struct" else f"{group}_"
    return f"{subject}_{middle}{modality}.nii.gz"


def scan_file(subject: str, modality: str) -> Path:
    """Where a scan is below ``NIfTI-files`` (where no folder is doubled)."""
    return Path(FOLDERS[group_of(modality)], subject, scan_name(subject, modality))


def corrected_mask(images: Path, subject: str) -> Path:
    """Where a tumour mask corrected by hand is, if there is one."""
    return images / "images_segm" / f"{subject}_segm.nii.gz"


def automatic_mask(images: Path, subject: str) -> Path:
    """Where the automatic tumour mask is, if there is one."""
    return images / "automated_segm" / f"{subject}_automated_approx_segm.nii.gz"


def read_upenn(config: UpennConfig) -> Reading:
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
    subjects: list[Subject] = []
    exclusions: list[Exclusion] = []
    for name in sorted((rows.keys() | set(_ids_on_disk(layout.images))) - faulty):
        row, found = rows.get(name), _scans(layout.images, name)
        reason = _reason_to_exclude(name, row, found, config.modalities)
        if reason or row is None:
            exclusions.append(Exclusion(name, "cohort", reason))
            continue
        folder = layout.images
        scans, lacks, incomplete = complete_groups(name, found, config.modalities, folder)
        mask = _mask(folder, name)
        if mask is None:
            problems.append(_no_mask(folder, name))
            continue
        exclusions += lacks
        problems += incomplete
        subjects.append(_subject(row, scans, *mask))
    return Reading(tuple(subjects), tuple(exclusions), tuple(problems))


def find_layout(root: Path) -> Layout:
    """Find the images and the newest clinical table at or below a folder.

    Raises:
        MgmtError: one of them is not there, or images are there twice.
    """
    if not root.is_dir():
        raise MgmtError(
            f"{root}: no such folder. Give the folder of your UPENN-GBM copy (it holds "
            "NIfTI-files/ and the clinical table) with --data or cohort.root."
        )
    folders = list(walk(root, OF_SUBJECTS, SEARCH_DEPTH))
    images = [f for f in folders if any((f / name).is_dir() for name in FOLDERS.values())]
    if not images:
        raise MgmtError(
            f"{root}: no UPENN-GBM images; looked for NIfTI-files/ with {_or(FOLDERS.values())} "
            f"down to {SEARCH_DEPTH} levels below. Give the folder above NIfTI-files/."
        )
    if len(images) > 1:
        raise MgmtError(
            f"{root}: UPENN-GBM images in more than one place ({', '.join(map(str, images))}). "
            "Give the folder of the copy that is meant."
        )
    tables = [path for folder in folders for path in folder.glob(CLINICAL_TABLE)]
    if not tables:
        raise MgmtError(
            f"{root}: no clinical table; looked for {CLINICAL_TABLE} down to {SEARCH_DEPTH} levels "
            "below. Download it from the data set's page and put it beside NIfTI-files/."
        )
    return Layout(images[0], max(tables, key=lambda table: (version_of(table), str(table))))


def _group_folders(images: Path, group: str) -> tuple[Path, Path]:
    folder = images / FOLDERS[group]
    return folder, folder / FOLDERS[group]


def _ids_on_disk(images: Path) -> Iterator[str]:
    for group in FOLDERS:
        for folder in _group_folders(images, group):
            if folder.is_dir():
                yield from (c.name for c in folder.iterdir() if SUBJECT_ID.fullmatch(c.name))


def _scans(images: Path, subject: str) -> dict[str, Path]:
    found = {}
    for modality in MODALITIES:
        for folder in _group_folders(images, group_of(modality)):
            path = folder / subject / scan_name(subject, modality)
            if path.is_file():
                found[modality] = path
                break
    return found


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


def _mask(images: Path, subject: str) -> tuple[Path, str] | None:
    for path, kind in (
        (corrected_mask(images, subject), "corrected"),
        (automatic_mask(images, subject), "automatic"),
    ):
        if path.is_file():
            return path, kind
    return None


def _no_mask(images: Path, subject: str) -> Problem:
    return Problem(
        subject,
        "no_mask",
        str(automatic_mask(images, subject)),
        "no tumour mask, neither corrected nor automatic",
        "Copy automated_segm/ and images_segm/, or leave the subject out with cohort.exclude",
    )


def _subject(row: ClinicalRow, scans: Mapping[str, Path], mask: Path, kind: str) -> Subject:
    assert row.label is not None
    person = row.subject.rpartition("_")[0]
    covariates = {**row.covariates, "mask_kind": kind}
    return Subject(row.subject, row.label, scans, mask, covariates, person)


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
