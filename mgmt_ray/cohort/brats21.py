"""The RSNA-ASNR-MICCAI BraTS 2021 data set: NIfTI of task 1 or DICOM of task 2, labels of task 2.

Baid et al. 2021, "The RSNA-ASNR-MICCAI BraTS 2021 benchmark on brain tumor segmentation and
radiogenomic classification". Both tasks use the same case numbers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from mgmt_ray.base import InputPath, MgmtError
from mgmt_ray.cohort.csv_rows import (
    AS_DOWNLOADED,
    join_first,
    read_label,
    read_rows,
    row_problem,
)
from mgmt_ray.cohort.dataset_files import (
    DataSetFiles,
    DataSetLayout,
    duplicate_folder_problem,
    find_data_set,
    find_nifti,
    is_folder,
    list_folder,
)
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import (
    ReaderConfig,
    ReaderResult,
    SubjectIds,
    exclude_subject,
    merge_results,
    missing_mask_problem,
    reason_without_scans,
    subject_result,
)
from mgmt_ray.cohort.subject import STRUCTURAL, Subject

LABEL_TABLE = "train_labels.csv"
FAULTY = ("00109", "00123", "00709")
"""Cases with faulty scans, which the challenge's organisers asked participants to exclude."""

NIFTI_NAMES = {"FLAIR": "flair", "T1": "t1", "T1GD": "t1ce", "T2": "t2"}
SERIES_NAMES = {"FLAIR": "FLAIR", "T1": "T1w", "T1GD": "T1wCE", "T2": "T2w"}
CASE = re.compile(r"(?:BraTS2021_)?(\d{1,5})(?:\.0+)?", re.IGNORECASE)
"""A case's number in a table, also as a spreadsheet or a script writes it."""

SUBJECT_FOLDERS = re.compile(r"(BraTS2021_)?\d{5}$")
LAYOUTS = {
    "nifti": DataSetLayout(
        "BraTS21", re.compile(r"BraTS2021_(\d{5})"), SUBJECT_FOLDERS, LABEL_TABLE, "BraTS2021_00002"
    ),
    "dicom": DataSetLayout(
        "BraTS21", re.compile(r"(\d{5})"), SUBJECT_FOLDERS, LABEL_TABLE, "train/00002"
    ),
}
MASK_NAME = re.compile(r"(?:BraTS2021_)?(\d{5})(?!\d).*\.nii(?:\.gz)?")


class Brats21Config(ReaderConfig):
    """A copy of BraTS21."""

    available_modalities = STRUCTURAL
    reader: Literal["brats21"]
    images: Literal["nifti", "dicom"] = Field(
        "nifti", description="task 1's NIfTI files, or task 2's DICOM series"
    )
    masks: InputPath | None = Field(
        None,
        description="folder with one mask per case, named 00002….nii.gz or "
        "BraTS2021_00002….nii.gz; none: task 1's own (DICOM has none)",
    )
    faulty: SubjectIds = Field(
        FAULTY, description="cases left out because their scans are known to be faulty"
    )

    @field_validator("faulty")
    @classmethod
    def _five_digits(cls, faulty: tuple[str, ...]) -> tuple[str, ...]:
        invalid = [name for name in faulty if not re.fullmatch(r"\d{5}", name)]
        if invalid:
            raise ValueError(f"{', '.join(invalid)}: write five digits in quotes, like '00109'")
        return faulty


def read_brats21(config: Brats21Config) -> ReaderResult:
    """Read cases with a label, a tumour mask and a scan of the study.

    Every id in the label table or on disk appears in the result. Task 1 has more cases than labels:
    those are excluded with the reason, like the cases known to be faulty and rows without scans.

    Raises:
        MgmtError: the folder, the images, the table or one of its columns is missing.
    """
    data_set = find_data_set(config.root, LAYOUTS[config.images])
    labels, faults = read_labels(data_set.table)
    masks = _masks_by_id(config.masks) if config.masks else None
    results = []
    for name in sorted(labels.keys() | faults.keys() | data_set.folders.keys()):
        if name in config.faulty:
            results.append(exclude_subject(name, "scans known to be faulty"))
        elif fault := faults.get(name) or duplicate_folder_problem(
            name, data_set.folders.get(name, ())
        ):
            results.append(ReaderResult(problems=(fault,)))
        else:
            results.append(_read_case(config, data_set, name, labels, masks))
    return merge_results(results)


def scan_path(folder: Path, subject: str, modality: str, images: str) -> Path:
    """Return the path of a scan in a case's folder: a NIfTI file, or a folder of DICOM files.

    >>> scan_path(Path("BraTS2021_00002"), "00002", "T1GD", "nifti").as_posix()
    'BraTS2021_00002/BraTS2021_00002_t1ce.nii.gz'
    """
    if images == "nifti":
        return folder / f"BraTS2021_{subject}_{NIFTI_NAMES[modality]}.nii.gz"
    return folder / SERIES_NAMES[modality]


def read_labels(path: Path) -> tuple[dict[str, int | None], dict[str, Problem]]:
    r"""Read labels by five-digit id, and a problem for each id with several rows or a bad label.

    Returns:
        A label of None is unknown.

    Raises:
        MgmtError: not a table, a column is missing, or an id is not a number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "train_labels.csv")
    ...     _ = path.write_text("BraTS21ID,MGMT_value\n2,1\n00003,0\n")
    ...     read_labels(path)
    ({'00002': 1, '00003': 0}, {})
    """
    _, rows = read_rows(path, ("BraTS21ID", "MGMT_value"), remedy=AS_DOWNLOADED)
    invalid = [repr(row["BraTS21ID"]) for row in rows if not case_number(row["BraTS21ID"])]
    if invalid:
        raise MgmtError(
            f"{path}: ids {join_first(invalid)} are not numbers of up to five digits. "
            "Use the table as downloaded; a spreadsheet may have changed it."
        )
    cells: dict[str, list[str]] = {}
    for row in rows:
        cells.setdefault(case_number(row["BraTS21ID"]), []).append(row["MGMT_value"])
    checked = {n: row_problem(n, path, "MGMT_value", cells[n]) for n in cells}
    faults = {name: fault for name, fault in checked.items() if fault}
    return {n: read_label(cells[n][0]) for n in cells if n not in faults}, faults


def case_number(cell: str) -> str:
    """Return the five digits of a case in a table's cell; empty where it names none.

    >>> case_number("BraTS2021_00097"), case_number("97.0"), case_number("unknown")
    ('00097', '00097', '')
    """
    match = CASE.fullmatch(cell)
    return match[1].zfill(5) if match else ""


def _read_case(
    config: Brats21Config,
    data_set: DataSetFiles,
    name: str,
    labels: Mapping[str, int | None],
    masks: Mapping[str, list[Path]] | None,
) -> ReaderResult:
    folder = data_set.folders[name][0] if name in data_set.folders else None
    scans = _scans(folder, name, config.images)
    if name not in labels:
        return exclude_subject(name, f"not in {LABEL_TABLE}")
    label = labels[name]
    if label is None:
        return exclude_subject(name, "MGMT unknown")
    if folder is None or not set(config.modalities) & set(scans):
        return exclude_subject(name, reason_without_scans(scans, config))
    mask, fault = _mask(config, folder, name, masks)
    subject = Subject(name, label, scans, mask, person=f"BraTS2021_{name}")
    return subject_result(subject, config, folder, fault)


def _scans(folder: Path | None, name: str, images: str) -> dict[str, Path]:
    if folder is None:
        return {}
    paths = {modality: scan_path(folder, name, modality, images) for modality in STRUCTURAL}
    if images == "dicom":
        return {m: path for m, path in paths.items() if os.path.lexists(path)}
    return {m: path for m, packed in paths.items() if (path := find_nifti(packed))}


def _masks_by_id(folder: Path) -> dict[str, list[Path]]:
    if not is_folder(folder):
        raise MgmtError(f"{folder}: no such folder. Give the folder of masks with cohort.masks.")
    masks: dict[str, list[Path]] = {}
    for path in list_folder(folder):
        if match := MASK_NAME.fullmatch(path.name):
            masks.setdefault(match[1], []).append(path)
    return masks


def _mask(
    config: Brats21Config, folder: Path, name: str, masks: Mapping[str, list[Path]] | None
) -> tuple[Path | None, Problem | None]:
    """Return the mask, and a problem if there is none or several."""
    where = config.masks or folder
    candidates = masks.get(name, []) if masks is not None else []
    if masks is None and config.images == "nifti":
        path = find_nifti(folder / f"BraTS2021_{name}_seg.nii.gz")
        candidates = [path] if path else []
    if len(candidates) == 1:
        return candidates[0], None
    if candidates:
        found = f"{len(candidates)} masks ({', '.join(path.name for path in candidates)})"
        remedy = "Keep one per case in cohort.masks"
        return candidates[0], missing_mask_problem(name, where, found, remedy)
    remedy = f"Put a mask named {name}.nii.gz into a folder and name the folder in cohort.masks"
    return None, missing_mask_problem(name, where, remedy=remedy)
