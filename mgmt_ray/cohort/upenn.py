"""The UPENN-GBM data set as The Cancer Imaging Archive gives it (version 2).

Bakas et al. 2022, "The University of Pennsylvania glioblastoma (UPenn-GBM) cohort". Scans are told
by their exact names: the raw series ``ID_DSC.nii.gz`` lies beside the maps made from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort, Exclusion
from mgmt_ray.cohort.subject import MODALITIES, MODALITY_GROUPS, Subject, group_of
from mgmt_ray.cohort.upenn_table import CLINICAL_TABLE, ClinicalRow, read_clinical_table

FOLDERS = {"Struct": "images_structural", "DTI": "images_DTI", "DSC": "images_DSC"}
"""Folder of each modality group; some copies hold it twice (``images_DTI/images_DTI``)."""

SUBJECT_ID = re.compile(r"UPENN-GBM-\d{5}_\d{2}")
BASELINE = "_11"
OF_SUBJECTS = re.compile(r"images_|automated_segm|UPENN-GBM-\d{5}|\.")
"""Folders that hold subjects: thousands, and never what :func:`find_layout` looks for."""

SEARCH_DEPTH = 4
"""Levels of folders below the root in which the images and the table are looked for."""


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


def read_upenn(root: Path, modalities: tuple[str, ...] = MODALITIES) -> Cohort:
    """Baseline subjects with an MGMT status, a tumour mask and the wanted scans.

    Everyone found in the clinical table or on disk is either a subject or excluded once with scope
    "cohort". A group of modalities is offered whole or not at all.

    Args:
        root: the data set's folder, ``NIfTI-files`` itself or one of its parents.
        modalities: the wanted ones.

    Raises:
        MgmtError: no such folder, images or table, or a table that cannot be used.
    """
    layout = find_layout(root)
    rows = read_clinical_table(layout.table, SUBJECT_ID)
    subjects: list[Subject] = []
    exclusions: list[Exclusion] = []
    for name in sorted(rows.keys() | set(_ids_on_disk(layout.images))):
        found = _scans(layout.images, name)
        reason = _reason_to_exclude(layout.images, name, rows.get(name), found, modalities)
        if reason:
            exclusions.append(Exclusion(name, "cohort", reason))
            continue
        lacks = _incomplete_groups(found, modalities)
        exclusions += [Exclusion(name, group, why) for group, why in lacks.items()]
        offered = {m: found[m] for m in modalities if m in found and group_of(m) not in lacks}
        subjects.append(_subject(layout.images, rows[name], offered))
    return Cohort(tuple(subjects), tuple(exclusions))


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
    folders = list(_walk(root, SEARCH_DEPTH))
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
    return Layout(images[0], max(tables, key=_version))


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    yield folder
    if depth == 0:
        return
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not OF_SUBJECTS.match(child.name):
            yield from _walk(child, depth - 1)


def _version(table: Path) -> tuple[list[int], str]:
    numbers = re.search(r"_v(\d+(?:\.\d+)*)", table.name)
    return [int(n) for n in numbers[1].split(".")] if numbers else [], str(table)


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
    images: Path,
    subject: str,
    row: ClinicalRow | None,
    found: Mapping[str, Path],
    modalities: tuple[str, ...],
) -> str | None:
    structural = [m for m in modalities if group_of(m) == "Struct"]
    if not subject.endswith(BASELINE):
        return "follow-up scan"
    if row is None:
        return "not in the clinical table"
    if row.label is None:
        return f"MGMT {row.mgmt}"
    if not found:
        return "no baseline scans"
    if not set(structural) <= set(found):
        return "no complete structural scans"
    lacks = _incomplete_groups(found, modalities)
    if all(group_of(m) in lacks for m in modalities):
        return f"no complete {_or(sorted(lacks))}"
    if _mask(images, subject) is None:
        return "no tumour mask"
    return None


def _incomplete_groups(found: Mapping[str, Path], modalities: tuple[str, ...]) -> dict[str, str]:
    """The groups of which something wanted is missing, with the reason in words."""
    lacks = {}
    for group, members in MODALITY_GROUPS.items():
        wanted = [m for m in members if m in modalities]
        missing = [m for m in wanted if m not in found]
        if missing == wanted != []:
            lacks[group] = f"no {group}"
        elif missing:
            lacks[group] = f"incomplete {group}: {', '.join(missing)} missing"
    return lacks


def _mask(images: Path, subject: str) -> tuple[Path, str] | None:
    for path, kind in (
        (corrected_mask(images, subject), "corrected"),
        (automatic_mask(images, subject), "automatic"),
    ):
        if path.is_file():
            return path, kind
    return None


def _subject(images: Path, row: ClinicalRow, scans: Mapping[str, Path]) -> Subject:
    mask = _mask(images, row.subject)
    assert mask is not None and row.label is not None
    path, kind = mask
    return Subject(row.subject, row.label, scans, path, {**row.covariates, "mask_kind": kind})


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
