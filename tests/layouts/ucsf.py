"""Writing subjects in the layout of UCSF-PDGM v5, with its irregularities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from mgmt_ray.base import stream, write_csv
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.cohort.ucsf import BRATS21_ID, COVARIATES, GRADE, STATUS, mask_name, scan_name
from mgmt_ray.synthetic.scan_writer import copy_file
from tests.layouts.inverted_contrast import write_inverted_contrast

TABLE = "UCSF-PDGM-metadata_v5.csv"
COLUMNS = (
    "ID",
    "Sex",
    "Age at MRI",
    GRADE,
    "Final pathologic diagnosis (WHO 2021)",
    STATUS,
    "MGMT index",
    "1p/19q",
    "IDH",
    "1-dead 0-alive",
    "OS",
    "EOR",
    "Biopsy prior to imaging",
    BRATS21_ID,
    "BraTS21 Segmentation Cohort",
    "BraTS21 MGMT Cohort",
)
"""Columns of the table's version 5, in its order."""

HIGHEST_ID = 541
MADE_FROM = {"SWI": "T1", "DWI": "T2", "ADC": "FLAIR", "ASL": "T1GD"}
FRACTION_WITH_MORE = 0.75
OTHERS = (("indeterminate", "4"), ("unknown", "4"), ("positive", "2"), ("negative", "3"))
"""Status and WHO grade of patients that a study of glioblastoma cannot use."""


def write_ucsf_copy(
    subjects: Sequence[Subject],
    folder: Path,
    seed: int,
    brats21_ids: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Write a copy of UCSF-PDGM with these subjects, two follow-ups, and others of ``OTHERS``.

    Three quarters of the subjects have SWI, DWI, ADC and ASL, each a structural scan with inverted
    contrast.

    Args:
        subjects: with the four structural scans.
        folder: gets ``UCSF-PDGM-v5/`` and the table.
        seed: of the new ids and of the selection for further scans.
        brats21_ids: five digits by old id, of subjects that are in BraTS21 too.

    Returns:
        The new ids, like ``UCSF-PDGM-0004``, by the old ones.
    """
    random = stream(seed, "UCSF-PDGM ids")
    highest = max(HIGHEST_ID, len(subjects) + len(OTHERS))
    free = [f"UCSF-PDGM-{1 + number:04d}" for number in random.permutation(highest)]
    sources = sorted(subjects, key=lambda subject: subject.id)
    ids = {source.id: name for source, name in zip(sources, free, strict=False)}
    with_more = set(
        random.permutation(len(sources))[: round(FRACTION_WITH_MORE * len(sources))].tolist()
    )
    images = folder / "UCSF-PDGM-v5"
    rows = []
    for i, source in enumerate(sources):
        _write_scans(source, ids[source.id], images, more=i in with_more)
        status = "positive" if source.label else "negative"
        brats21 = (brats21_ids or {}).get(source.id, "")
        rows.append(_row(source, ids[source.id], status, "4", brats21))
    rows += _write_others(sources, free[len(ids) :], images)
    rows += _write_follow_ups(sources, ids, images)
    ordered = sorted(rows, key=lambda row: row["ID"])
    cells = [[row.get(name, "unknown") for name in COLUMNS] for row in ordered]
    write_csv(folder / TABLE, [COLUMNS, *cells])
    return ids


def _write_scans(source: Subject, name: str, images: Path, more: bool) -> None:
    folder = images / f"{name}_nifti"
    for modality in STRUCTURAL:
        target = folder / scan_name(name, modality)
        copy_file(source.scans[modality], target)
        stem = target.name.removesuffix(".nii.gz")
        copy_file(source.scans[modality], folder / f"{stem}_bias.nii.gz")
    if more:
        for modality, origin in MADE_FROM.items():
            write_inverted_contrast(source.scans[origin], folder / scan_name(name, modality))
    for part in ("brain_segmentation", "brain_parenchyma_segmentation"):
        copy_file(source.required_mask, folder / f"{name}_{part}.nii.gz")
    copy_file(source.required_mask, folder / mask_name(name))


def _write_others(
    sources: Sequence[Subject], names: Sequence[str], images: Path
) -> list[dict[str, str]]:
    """Write patients of other grades with other voxels, so that they are not duplicates."""
    rows = []
    others = zip(cycle(sources), names, OTHERS, strict=False)
    # a step of 1 makes what MADE_FROM names
    for step, (source, name, (status, grade)) in enumerate(others, start=2):
        folder = images / f"{name}_nifti"
        for modality in STRUCTURAL:
            target = folder / scan_name(name, modality)
            write_inverted_contrast(source.scans[modality], target, step)
        copy_file(source.required_mask, folder / mask_name(name))
        rows.append(_row(source, name, status, grade))
    return rows


def _write_follow_ups(
    sources: Sequence[Subject], ids: Mapping[str, str], images: Path
) -> list[dict[str, str]]:
    """Write follow-ups of the first two subjects; the second has no row in the table."""
    rows = []
    for day, source in enumerate(sources[:2], start=1):
        name = f"{ids[source.id]}_FU{day:03d}d"
        _write_scans(source, name, images, more=False)
        if day == 1:
            rows.append(_row(source, name, "positive" if source.label else "negative", "4"))
    return rows


def _row(
    source: Subject, name: str, status: str, grade: str, brats21_id: str = ""
) -> dict[str, str]:
    number = name.removeprefix("UCSF-PDGM-")
    covariates = {
        COVARIATES[c]: source.covariates.get(c, "unknown") for c in ("age", "sex", "idh1")
    }
    in_brats21 = "Training" if brats21_id else ""
    return covariates | {
        # as the real table: three digits, but four for a follow-up
        "ID": f"UCSF-PDGM-{number if '_' in number else f'{int(number):03d}'}",
        GRADE: grade,
        STATUS: status,
        "Final pathologic diagnosis (WHO 2021)": (
            "Glioblastoma, IDH-wildtype" if grade == "4" else "Astrocytoma, IDH-mutant"
        ),
        BRATS21_ID: f"BraTS2021_{brats21_id}" if brats21_id else "",
        "BraTS21 Segmentation Cohort": in_brats21,
        "BraTS21 MGMT Cohort": in_brats21,
    }
