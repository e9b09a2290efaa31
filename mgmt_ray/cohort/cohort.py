"""The cohort of a study: who is in, who is out and why, as two plain tables."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError, fingerprint, write_text
from mgmt_ray.cohort.subject import MODALITIES, MODALITY_GROUPS, Subject

FIXED_COLUMNS = ("subject", "label", "modalities", "mask")


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why something found on disk or in a table is not used.

    Attributes:
        subject: the subject's id.
        scope: "cohort" when the whole subject is out, else the modality group it lacks.
        reason: in words; equal reasons are counted together in the flow.
    """

    subject: str
    scope: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cohort:
    """Subjects sorted by id, and every exclusion with its reason."""

    subjects: tuple[Subject, ...]
    exclusions: tuple[Exclusion, ...] = ()

    def __post_init__(self) -> None:
        ids = [subject.id for subject in self.subjects]
        twice = sorted(name for name, count in Counter(ids).items() if count > 1)
        if twice:
            raise MgmtError(
                f"cohort: {', '.join(twice)} appear more than once. "
                "Keep one folder or row per subject, or name the others in cohort.exclude."
            )
        object.__setattr__(self, "subjects", tuple(sorted(self.subjects, key=lambda s: s.id)))

    def subject(self, subject_id: str) -> Subject:
        """The subject of that id; KeyError if there is none."""
        for subject in self.subjects:
            if subject.id == subject_id:
                return subject
        raise KeyError(subject_id)

    @property
    def hash(self) -> str:
        """Fingerprint of who is in with which label and which modalities."""
        return fingerprint([[s.id, s.label, sorted(s.scans)] for s in self.subjects])


def write_cohort(cohort: Cohort, folder: Path) -> None:
    """Write ``cohort.csv`` (one row per subject, a column per modality) and ``exclusions.csv``."""
    covariates = sorted({name for subject in cohort.subjects for name in subject.covariates})
    present = [m for m in MODALITIES if any(m in subject.scans for subject in cohort.subjects)]
    rows: list[Sequence[object]] = [(*FIXED_COLUMNS, *covariates, *present)]
    for subject in cohort.subjects:
        available = " ".join(m for m in present if m in subject.scans)
        rows.append(
            (
                subject.id,
                subject.label,
                available,
                subject.mask,
                *(subject.covariates.get(name, "") for name in covariates),
                *(subject.scans.get(m, "") for m in present),
            )
        )
    write_text(folder / "cohort.csv", _csv(rows))
    excluded = [("subject", "scope", "reason")]
    excluded += [(e.subject, e.scope, e.reason) for e in cohort.exclusions]
    write_text(folder / "exclusions.csv", _csv(excluded))


def read_cohort(folder: Path) -> Cohort:
    """Read back what :func:`write_cohort` wrote.

    Raises:
        MgmtError: the tables are not there yet.
    """
    path = folder / "cohort.csv"
    if not path.exists():
        raise MgmtError(f"{path}: not there yet. Run `mgmt-ray cohort STUDY --out {folder}` first.")
    subjects = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            subjects.append(
                Subject(
                    id=row["subject"],
                    label=int(row["label"]),
                    scans={m: Path(row[m]) for m in MODALITIES if row.get(m)},
                    mask=Path(row["mask"]),
                    covariates={
                        name: value
                        for name, value in row.items()
                        if value and name not in FIXED_COLUMNS and name not in MODALITIES
                    },
                )
            )
    with (folder / "exclusions.csv").open(newline="", encoding="utf-8") as file:
        exclusions = tuple(Exclusion(**row) for row in csv.DictReader(file))
    return Cohort(tuple(subjects), exclusions)


def flow(cohort: Cohort, modalities: tuple[str, ...] = MODALITIES) -> list[tuple[str, int]]:
    """The flow of numbers from everyone found to each group's subjects, for printing.

    Returns:
        (what, number of subjects) from the top down; the first number is the sum of the
        subjects that stay and the ``cohort`` exclusions.
    """
    out = Counter(e.reason for e in cohort.exclusions if e.scope == "cohort")
    lines = [("found", len(cohort.subjects) + sum(out.values()))]
    lines += [(f"excluded: {reason}", number) for reason, number in sorted(out.items())]
    lines.append(("in the cohort", len(cohort.subjects)))
    lines.append(("  methylated", sum(s.label for s in cohort.subjects)))
    lines.append(("  unmethylated", sum(1 - s.label for s in cohort.subjects)))
    for group, members in MODALITY_GROUPS.items():
        if set(members) & set(modalities):
            number = sum(s.has_group(group, modalities) for s in cohort.subjects)
            lines.append((f"  with {group}", number))
    return lines


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
