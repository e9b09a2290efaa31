"""New patients of unknown methylation: scans, optionally a mask, and no label."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.csv_rows import group_rows, read_rows, row_problem
from mgmt_ray.cohort.dataset_files import is_folder, list_folder, missing_reason
from mgmt_ray.cohort.plain_table import OPTIONAL, SUBJECT_ID, row_subject, same_in_other_case
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import ReaderResult, merge_results
from mgmt_ray.cohort.subject import Subject

TABLE = "cohort.csv"
SIDECARS = (".json", ".txt", ".csv", ".bval", ".bvec", ".png", ".jpg", ".pdf")
"""Endings of files that lie beside scans and are none."""

NO_LABEL = 0
"""Placeholder for the label; nothing may be computed from it."""


def read_patients(folder: Path, modalities: Sequence[str]) -> ReaderResult:
    r"""Read the patients in a folder; a fault of one patient is a problem and does not stop others.

    The folder holds ``cohort.csv`` (a cohort's table, whose labels are ignored), or one folder per
    patient with ``MODALITY.nii.gz`` (or a folder ``MODALITY`` with a DICOM series) and, if there is
    a mask, ``mask.nii.gz``. Names may be in any case, like the columns of tables. A file of such a
    name and of another format, like ``FLAIR.mgz``, is taken for the scan that it is meant to be:
    reading says what it is, where the patient would else be predicted without it. Of ids that
    differ in case alone, none is read; links to the folder itself are no patients.

    Args:
        modalities: of all models; a patient needs at least one of them.

    Raises:
        MgmtError: the folder does not exist or is empty, or its table has no column of scans.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "cohort.csv").write_text("subject,FLAIR\nP1,flair.nii.gz\n")
    ...     _ = Path(folder, "flair.nii.gz").write_bytes(b"")
    ...     [patient.id for patient in read_patients(Path(folder), ["FLAIR"]).subjects]
    ['P1']
    """
    if not is_folder(folder):
        raise MgmtError(f"{folder}: no such folder. Give the folder of the patients' scans.")
    if (folder / TABLE).is_file():
        result = merge_results(_from_table(folder, modalities))
    else:
        folders = _patient_folders(folder)
        faults = same_in_other_case([path.name for path in folders], folder)
        result = merge_results(
            ReaderResult(problems=(faults[path.name],))
            if path.name in faults
            else _from_folder(path, modalities)
            for path in folders
        )
    if not result.subjects and not result.problems:
        example = f"P001/{modalities[0]}.nii.gz"
        raise MgmtError(
            f"{folder}: has no patients. Put the scans of each patient into a folder, like "
            f"{example}, or write a table {TABLE} with the columns subject and "
            f"{', '.join(modalities)}."
        )
    return result


def unused_files(folder: Path, patients: Iterable[Subject]) -> dict[str, str]:
    """Return what lies beside patients' scans, may be a scan and is not read, by patient's id.

    What lies beside the folders of the patients has the id "". Of a table's patients there is
    nothing: the table names each scan.
    """
    if (folder / TABLE).is_file():
        return {}
    beside = {"": [path for path in list_folder(folder) if not is_folder(path)]}
    for patient in patients:
        used = {*patient.scans.values(), patient.mask}
        own = list_folder(folder / patient.id)
        beside[patient.id] = [path for path in own if path not in used]
    unused = {
        name: ", ".join(path.name for path in paths if path.suffix.lower() not in SIDECARS)
        for name, paths in beside.items()
    }
    return {name: files for name, files in unused.items() if files}


def _patient_folders(folder: Path) -> list[Path]:
    own = os.path.realpath(folder)
    paths = [path for path in list_folder(folder) if is_folder(path)]
    return [path for path in paths if os.path.realpath(path) != own]


def _from_table(folder: Path, modalities: Sequence[str]) -> list[ReaderResult]:
    path = folder / TABLE
    columns, rows = read_rows(path, ("subject",), (*modalities, *OPTIONAL))
    present = [m for m in modalities if m in columns]
    if not present:
        raise MgmtError(
            f"{path}: has no column of the study's modalities ({', '.join(modalities)}). Use these "
            "names for the columns of scans."
        )
    results = []
    by_id = sorted(group_rows(rows, "subject").items())
    faults = same_in_other_case([name for name, _ in by_id], path)
    for name, patient_rows in by_id:
        subject = row_subject(patient_rows[0], NO_LABEL, folder, present)
        # of several rows of one patient, none is known to be right
        repeated = row_problem(name, path, "label", ["" for _ in patient_rows])
        fault = faults.get(name) or repeated
        results.append(
            ReaderResult(problems=(fault,)) if fault else _check_patient(subject, path, present)
        )
    return results


def _from_folder(folder: Path, modalities: Sequence[str]) -> ReaderResult:
    try:
        entries = list_folder(folder)
        scans = {m: path for m in modalities if (path := _find(entries, m))}
    except MgmtError as error:  # without permission, for instance
        found = str(error).rstrip(".")
        fault = Problem(folder.name, "unreadable", str(folder), found, "Then rerun the command")
        return ReaderResult(problems=(fault,))
    subject = Subject(folder.name, NO_LABEL, scans, _find(entries, "mask"))
    return _check_patient(subject, folder, modalities)


def _find(entries: Sequence[Path], name: str) -> Path | None:
    """Return the file or folder of a name, in any case: NIfTI before a folder, before others."""

    def rank(path: Path) -> tuple[bool, int, bool]:
        stem, dot, suffix = path.name.partition(".")
        known = (".nii.gz", ".nii", "")
        kind = dot + suffix.lower()
        return kind not in known, known.index(kind) if kind in known else 0, stem != name

    named = (p for p in entries if p.name.partition(".")[0].casefold() == name.casefold())
    return min((p for p in named if p.suffix.lower() not in SIDECARS), key=rank, default=None)


def _check_patient(subject: Subject, where: Path, modalities: Sequence[str]) -> ReaderResult:
    name, fault = subject.id, None
    paths = [*subject.scans.values(), *([subject.mask] if subject.mask else [])]
    missing = [(path, *reason) for path in paths if (reason := missing_reason(path))]
    if not SUBJECT_ID.fullmatch(name):
        found = "an id that cannot be used in file names"
        remedy = "Write up to 100 letters (A to Z), digits, dots, underscores and hyphens"
        fault = Problem(name, "wrong_format", str(where), found, remedy)
    elif not subject.scans:
        found = f"no scan of the study's modalities ({', '.join(modalities)})"
        remedy = f"Name the files of scans like {modalities[0]}.nii.gz"
        fault = Problem(name, "missing_modality", str(where), found, remedy)
    elif missing:
        path, found, remedy = missing[0]
        fault = Problem(name, "no_file", str(path), found, remedy)
    return ReaderResult(problems=(fault,)) if fault else ReaderResult((subject,))
