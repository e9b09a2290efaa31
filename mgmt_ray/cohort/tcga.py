"""TCGA-GBM: the pre-operative scans and BraTS masks of TCIA, labelled by methylation arrays.

Scans: Bakas et al. 2017, "Segmentation labels for the pre-operative scans of the TCGA-GBM
collection". Labels: by the median rule of Chen et al. 2020, or by MGMT-STP27.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from mgmt_ray.base import InputPath, MgmtError
from mgmt_ray.cohort.dataset_files import SEARCH_DEPTH, is_folder, paths_below
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
from mgmt_ray.cohort.subject import STRUCTURAL, Subject
from mgmt_ray.cohort.tcga_methylation import PROBES, Methylation, read_methylation

SCANS = {"T2": "t2", "FLAIR": "flair", "T1": "t1", "T1GD": "t1Gd"}
"""Part of a file's name that identifies each modality."""

MASKS = {"corrected": "GlistrBoost_ManuallyCorrected", "automatic": "GlistrBoost"}
"""Part of a file's name that identifies each kind of mask, the preferred first."""

SESSION_FILE = re.compile(
    r"(TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})_(\d{4}\.\d{2}\.\d{2})_"
    rf"({'|'.join((*SCANS.values(), *MASKS.values()))})\.nii(?:\.gz)?"
)
METHYLATION_FILE = re.compile(
    r"(?!\.).*methylation(?:\d*|.*\.(?:txt|tsv|csv))(?:\.gz)?", re.IGNORECASE
)
SKIP_NOTHING = re.compile(r"(?!)")
"""Matches no folder: subjects are identified by the names of files."""


class TcgaConfig(TwoMasksConfig):
    """A copy of TCGA-GBM with masks, and methylation tables."""

    available_modalities = STRUCTURAL
    reader: Literal["tcga"]
    methylation: tuple[InputPath, ...] = Field(
        (),
        description="tables of beta values, the preferred first; empty: the files at or below root "
        "with methylation in their names (like HumanMethylation450.gz, GBM.methylation.txt), those "
        "with 450 first",
    )
    rule: Literal["median", "stp27"] = Field(
        "median",
        description="median: methylated above the training subjects' median of the mean of two "
        "betas; stp27: by the published model MGMT-STP27",
    )


@dataclass(frozen=True, slots=True)
class Session:
    """The files of one patient and date.

    Attributes:
        files: by the identifying part of their names (see :data:`SCANS` and :data:`MASKS`).
        duplicates: further files of the same scan or mask, by the same part.
    """

    patient: str
    date: str
    files: dict[str, Path] = field(default_factory=dict)
    duplicates: dict[str, Path] = field(default_factory=dict)


def session_file(patient: str, date: str, part: str) -> str:
    """Return the file name of a scan or mask.

    >>> session_file("TCGA-02-0006", "1996.08.23", SCANS["T1GD"])
    'TCGA-02-0006_1996.08.23_t1Gd.nii.gz'
    """
    return f"{patient}_{date}_{part}.nii.gz"


def read_tcga(config: TcgaConfig) -> ReaderResult:
    """Read patients with scans and methylation data at their first date.

    Every patient with scans appears in the result. A later date of the same patient is a follow-up,
    and a patient without both probes in a primary tumour has no label: they are excluded with the
    reason. The hundreds of patients with methylation data but no scans do not appear.

    With the rule "stp27" the label is final. With "median" a subject's score is the mean of its two
    betas, and its label is always 0, a placeholder that must not be used: labels then follow from a
    cut-off that is fitted on training subjects (:func:`~mgmt_ray.splits.split.resolve_labels`).

    Raises:
        MgmtError: the folder, the scans or the methylation table is missing, or a table is invalid.
    """
    content = "methylation tables and the images"
    paths = paths_below(config.root, "TCGA-GBM", content, SKIP_NOTHING)
    sessions = find_sessions(config.root, paths)
    tables = config.methylation or find_tables(config.root, paths)
    measured, problems = read_methylation(tables, sessions.keys())
    faulty = {problem.subject for problem in problems}
    results = [ReaderResult(problems=tuple(problems))]
    for patient, (first, *later) in sessions.items():
        results += [
            exclude_subject(f"{patient}_{session.date}", "follow-up scan") for session in later
        ]
        if patient not in faulty:
            results.append(_read_session(first, measured.get(patient), config))
    return merge_results(results)


def find_sessions(root: Path, paths: Iterable[Path]) -> dict[str, list[Session]]:
    """Return sessions by patient, sorted by patient and date.

    Raises:
        MgmtError: there are no scans.

    >>> scan = Path(session_file("TCGA-02-0006", "1996.08.23", "flair"))
    >>> [session.date for session in find_sessions(Path(), [scan])["TCGA-02-0006"]]
    ['1996.08.23']
    """
    sessions: dict[tuple[str, str], Session] = {}
    for path in paths:
        if match := SESSION_FILE.fullmatch(path.name):
            patient, date, part = match.groups()
            session = sessions.setdefault((patient, date), Session(patient, date))
            other = session.files.get(part)
            if other and other.parent != path.parent:
                session.duplicates[part] = path
            else:  # the compressed form of a file sorts last, and is kept
                session.files[part] = path
    if not sessions:
        raise MgmtError(
            f"{root}: no TCGA scans; looked for files like "
            f"{session_file('TCGA-02-0006', '1996.08.23', 'flair')} down to {SEARCH_DEPTH} levels "
            "below. Give the folder of your copy with --data or cohort.root."
        )
    by_patient: dict[str, list[Session]] = {}
    for (patient, _), session in sorted(sessions.items()):
        by_patient.setdefault(patient, []).append(session)
    return by_patient


def find_tables(root: Path, paths: Iterable[Path]) -> list[Path]:
    """Find methylation tables by name, HumanMethylation450 (the newer array) first.

    Raises:
        MgmtError: there is none.
    """
    matches = (path for path in paths if METHYLATION_FILE.fullmatch(path.name))
    tables = [path for path in matches if not is_folder(path)]
    if not tables:
        raise MgmtError(
            f"{root}: no methylation table; looked for names like HumanMethylation450.gz down to "
            f"{SEARCH_DEPTH} levels below. Download HumanMethylation450 and HumanMethylation27 of "
            "TCGA-GBM (UCSC Xena) and put them there, or list them in cohort.methylation."
        )
    return sorted(tables, key=lambda path: ("450" not in path.name, str(path)))


def _read_session(
    session: Session, measured: Methylation | None, config: TcgaConfig
) -> ReaderResult:
    patient, files = session.patient, session.files
    scans = {m: files[part] for m, part in SCANS.items() if part in files}
    reason = reason_without_scans(scans, config, "no baseline scans")
    if reason or measured is None:
        return exclude_subject(patient, reason or "no methylation data")
    if session.duplicates:
        return ReaderResult(problems=(_duplicate_files_problem(session),))
    folder = next(iter(scans.values())).parent
    used = MASKS if config.corrected_masks else {"automatic": MASKS["automatic"]}
    kinds = [kind for kind, part in used.items() if part in files]
    automatic = folder / session_file(patient, session.date, MASKS["automatic"])
    mask = files[MASKS[kinds[0]]] if kinds else None
    betas = {f"beta_{p}": f"{beta:.6g}" for p, beta in zip(PROBES, measured.betas, strict=True)}
    covariates = {**betas, "methylation_file": measured.file.name}
    if kinds:
        covariates["mask_kind"] = kinds[0]
    score = measured.score if config.rule == "median" else None
    label = int(measured.is_methylated_by_stp27) if score is None else 0
    subject = Subject(patient, label, scans, mask, covariates, score=score)
    found = f"no tumour mask, {' or '.join(used)}"
    fault = None if mask else missing_mask_problem(patient, automatic, found)
    return subject_result(subject, config, folder, fault)


def _duplicate_files_problem(session: Session) -> Problem:
    part, duplicate = next(iter(session.duplicates.items()))
    remedy = "Keep one copy of the patient's files below cohort.root"
    found = f"exists twice, also as {session.files[part]}"
    return Problem(session.patient, "duplicated_subject", str(duplicate), found, remedy)
