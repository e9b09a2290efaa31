"""The cohort of a study: its subjects and its exclusions with their reasons, and their tables."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError, fingerprint, first_line, write_csv
from mgmt_ray.cohort.subject import (
    AS_STORED,
    MODALITIES,
    ScanConventions,
    Subject,
    group_modalities,
)

NEEDED_COLUMNS = ("subject", "label", "person", "score", "modalities", "mask")
"""Columns of ``cohort.csv`` that every version wrote."""

FIXED_COLUMNS = (*NEEDED_COLUMNS, "tumour_mask", "given_mask")
"""``tumour_mask`` says whether ``mask`` is "given" or "predicted"."""

EXCLUSION_COLUMNS = ("subject", "scope", "reason")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why a subject, or one of its modality groups, is not used.

    Attributes:
        scope: "cohort" when the whole subject is excluded, else the excluded modality group.
        reason: equal reasons are counted together in :func:`exclusion_flow`.
    """

    subject: str
    scope: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """Subjects sorted by id, and every exclusion with its reason.

    >>> cohort = Cohort((Subject("P2", 0, {}, None), Subject("P1", 1, {}, None)))
    >>> [subject.id for subject in cohort.subjects]
    ['P1', 'P2']
    """

    subjects: tuple[Subject, ...]
    exclusions: tuple[Exclusion, ...] = ()

    def __post_init__(self) -> None:
        ids = [subject.id for subject in self.subjects]
        duplicates = sorted(name for name, count in Counter(ids).items() if count > 1)
        if duplicates:
            raise MgmtError(
                f"cohort: {', '.join(duplicates)} appear more than once. "
                "Keep one folder or row per subject, or name the others in cohort.exclude."
            )
        object.__setattr__(self, "subjects", tuple(sorted(self.subjects, key=lambda s: s.id)))

    def __hash__(self) -> int:
        """Hash the ids alone: a subject's dictionaries cannot be hashed."""
        return hash(tuple(subject.id for subject in self.subjects))

    @property
    def roster_hash(self) -> str:
        """Fingerprint of the subjects with their persons, labels (or scores) and modalities."""
        return fingerprint(
            [
                [s.id, s.person, s.label if s.score is None else s.score, sorted(s.scans)]
                for s in self.subjects
            ]
        )

    @property
    def hash(self) -> str:
        """Fingerprint of the roster and of the subjects whose masks are predicted."""
        predicted = [s.id for s in self.subjects if s.mask_kind == "predicted"]
        if not predicted:
            return self.roster_hash
        return fingerprint([self.roster_hash, predicted])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that at least one subject has: the paper's in its order, then the others."""
        present = sorted({m for subject in self.subjects for m in subject.scans})
        published = [m for m in MODALITIES if m in present]
        return (*published, *(m for m in present if m not in published))


def write_cohort(cohort: Cohort, folder: Path) -> None:
    """Write ``cohort.csv`` (one row per subject, a column per modality) and ``exclusions.csv``."""
    covariates = sorted({name for subject in cohort.subjects for name in subject.covariates})
    modalities = cohort.modalities
    rows: list[Sequence[object]] = [(*FIXED_COLUMNS, *covariates, *modalities)]
    for s in cohort.subjects:
        available = " ".join(m for m in modalities if m in s.scans)
        score = "" if s.score is None else repr(s.score)
        masks = (s.mask or "", s.mask_kind, s.given_mask or "")
        more = [s.covariates.get(name, "") for name in covariates]
        scans = [s.scans.get(m, "") for m in modalities]
        rows.append((s.id, s.label, s.person, score, available, *masks, *more, *scans))
    write_csv(folder / "cohort.csv", rows)
    exclusions = [(e.subject, e.scope, e.reason) for e in cohort.exclusions]
    write_csv(folder / "exclusions.csv", [EXCLUSION_COLUMNS, *exclusions])


def read_cohort(folder: Path, conventions: ScanConventions = AS_STORED) -> Cohort:
    """Read the tables that :func:`write_cohort` wrote.

    Args:
        folder: of the study or the external cohort.
        conventions: of the cohort's files; needed only where these are read.

    Raises:
        MgmtError: the tables do not exist, or are not as :func:`write_cohort` writes them.

    >>> import tempfile
    >>> cohort = Cohort((Subject("P1", 1, {"FLAIR": Path("flair.nii.gz")}, None),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_cohort(cohort, Path(folder))
    ...     read_cohort(Path(folder)) == cohort
    True
    """
    path = folder / "cohort.csv"
    if not path.exists():
        raise MgmtError(
            f"{path}: does not exist. Run `mgmt-ray cohort STUDY --out {folder}` first."
        )
    rows = _read_table(path, NEEDED_COLUMNS)
    modalities = {m for row in rows for m in row["modalities"].split()}
    try:
        subjects = tuple(_subject(row, modalities, conventions) for row in rows)
    except (KeyError, ValueError) as error:
        raise _not_a_study_table(path, f"{type(error).__name__}: {error}") from error
    rows = _read_table(folder / "exclusions.csv", EXCLUSION_COLUMNS)
    exclusions = tuple(Exclusion(*(row[c] for c in EXCLUSION_COLUMNS)) for row in rows)
    return Cohort(subjects, exclusions)


def _read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, restval="")
            rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _not_a_study_table(path, first_line(error)) from error
    missing = [name for name in needed if name not in (table.fieldnames or ())]
    if missing:
        raise _not_a_study_table(path, f"no column {', '.join(missing)}")
    return rows


def _not_a_study_table(path: Path, reason: str) -> MgmtError:
    return MgmtError(
        f"{path}: is not as `mgmt-ray cohort` wrote it ({reason}). Give the folder of a study, or "
        "run `mgmt-ray cohort STUDY --out FOLDER` again."
    )


def _subject(row: Mapping[str, str], modalities: Set[str], conventions: ScanConventions) -> Subject:
    others = {*FIXED_COLUMNS, *modalities}
    return Subject(
        id=row["subject"],
        label=int(row["label"]),
        scans={m: Path(row[m]) for m in row["modalities"].split()},
        mask=Path(row["mask"]) if row["mask"] else None,
        covariates={name: value for name, value in row.items() if value and name not in others},
        person=row["person"],
        score=float(row["score"]) if row["score"] else None,
        mask_kind="predicted" if row.get("tumour_mask") == "predicted" else "given",
        given_mask=Path(row["given_mask"]) if row.get("given_mask") else None,
        conventions=conventions,
    )


def exclusion_flow(cohort: Cohort, modalities: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return texts and numbers of subjects of a flow diagram, from all found to each group's.

    >>> cohort = Cohort((Subject("P1", 1, {}, None),), (Exclusion("P2", "cohort", "no scans"),))
    >>> exclusion_flow(cohort, ())[:3]
    [('found', 2), ('excluded: no scans', 1), ('in the cohort', 1)]
    """
    reasons = Counter(e.reason for e in cohort.exclusions if e.scope == "cohort")
    lines = [("found", len(cohort.subjects) + sum(reasons.values()))]
    lines += [(f"excluded: {reason}", number) for reason, number in sorted(reasons.items())]
    lines.append(("in the cohort", len(cohort.subjects)))
    labels = [s.label for s in cohort.subjects if s.score is None]
    if len(labels) < len(cohort.subjects):
        lines.append(("  labelled by each split", len(cohort.subjects) - len(labels)))
    lines.append(("  methylated", sum(labels)))
    lines.append(("  unmethylated", len(labels) - sum(labels)))
    num_predicted = sum(s.mask_kind == "predicted" for s in cohort.subjects)
    lines += [("  with a predicted mask", num_predicted)] if num_predicted else []
    for group, members in group_modalities(modalities).items():
        number = sum(s.has_all(members) for s in cohort.subjects)
        lines.append((f"  with {group}", number))
    return lines
