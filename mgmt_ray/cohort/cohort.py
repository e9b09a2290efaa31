"""The cohort of a study: who is in, who is out and why, as two plain tables."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError, fingerprint, first_line, write_csv
from mgmt_ray.cohort.subject import MODALITIES, Subject, group_modalities

NEEDED_COLUMNS = ("subject", "label", "person", "score", "modalities", "mask")
"""Of ``cohort.csv``; earlier versions wrote no others."""

FIXED_COLUMNS = (*NEEDED_COLUMNS, "tumour_mask", "given_mask")
"""``tumour_mask`` says whether ``mask`` is "given" or "predicted"."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Why something found on disk or in a table is not used.

    Attributes:
        subject: the subject's id.
        scope: "cohort" when the whole subject is out, else the modality group that is not used.
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

    @property
    def roster_hash(self) -> str:
        """Fingerprint of who is in, with which label (or score) and which modalities."""
        return fingerprint(
            [
                [s.id, s.person, s.label if s.score is None else s.score, sorted(s.scans)]
                for s in self.subjects
            ]
        )

    @property
    def hash(self) -> str:
        """The same, and of whom the mask is a predicted one."""
        predicted = [s.id for s in self.subjects if s.mask_kind == "predicted"]
        if not predicted:
            return self.roster_hash
        return fingerprint([self.roster_hash, predicted])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that at least one subject has, the paper's first and in its order."""
        found = sorted({m for subject in self.subjects for m in subject.scans})
        known = [m for m in MODALITIES if m in found]
        return (*known, *(m for m in found if m not in known))


def write_cohort(cohort: Cohort, folder: Path) -> None:
    """Write ``cohort.csv`` (one row per subject, a column per modality) and ``exclusions.csv``."""
    covariates = sorted({name for subject in cohort.subjects for name in subject.covariates})
    present = cohort.modalities
    rows: list[Sequence[object]] = [(*FIXED_COLUMNS, *covariates, *present)]
    for subject in cohort.subjects:
        available = " ".join(m for m in present if m in subject.scans)
        rows.append(
            (
                subject.id,
                subject.label,
                subject.person,
                "" if subject.score is None else repr(subject.score),
                available,
                subject.mask or "",
                subject.mask_kind,
                subject.given_mask or "",
                *(subject.covariates.get(name, "") for name in covariates),
                *(subject.scans.get(m, "") for m in present),
            )
        )
    write_csv(folder / "cohort.csv", rows)
    excluded = [("subject", "scope", "reason")]
    excluded += [(e.subject, e.scope, e.reason) for e in cohort.exclusions]
    write_csv(folder / "exclusions.csv", excluded)


def read_cohort(folder: Path) -> Cohort:
    """Read back what :func:`write_cohort` wrote.

    Raises:
        MgmtError: the tables are not there yet, or others than this program writes.
    """
    path = folder / "cohort.csv"
    if not path.exists():
        raise MgmtError(f"{path}: not there yet. Run `mgmt-ray cohort STUDY --out {folder}` first.")
    rows = _rows(path, NEEDED_COLUMNS)
    modalities = {m for row in rows for m in row["modalities"].split()}
    try:
        subjects = tuple(_subject(row, modalities) for row in rows)
    except (KeyError, ValueError) as error:
        raise _not_a_study_table(path, f"{type(error).__name__}: {error}") from error
    columns = ("subject", "scope", "reason")
    excluded = _rows(folder / "exclusions.csv", columns)
    return Cohort(subjects, tuple(Exclusion(*(row[c] for c in columns)) for row in excluded))


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
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


def _not_a_study_table(path: Path, why: str) -> MgmtError:
    return MgmtError(
        f"{path}: is not as `mgmt-ray cohort` wrote it ({why}). Give the folder of a study, or run "
        "`mgmt-ray cohort STUDY --out FOLDER` again."
    )


def _subject(row: Mapping[str, str], modalities: Set[str]) -> Subject:
    known = {*FIXED_COLUMNS, *modalities}
    return Subject(
        id=row["subject"],
        label=int(row["label"]),
        scans={m: Path(row[m]) for m in row["modalities"].split()},
        mask=Path(row["mask"]) if row["mask"] else None,
        covariates={name: value for name, value in row.items() if value and name not in known},
        person=row["person"],
        score=float(row["score"]) if row["score"] else None,
        mask_kind="predicted" if row.get("tumour_mask") == "predicted" else "given",
        given_mask=Path(row["given_mask"]) if row.get("given_mask") else None,
    )


def exclusion_flow(cohort: Cohort, modalities: tuple[str, ...]) -> list[tuple[str, int]]:
    """The flow of numbers from everyone found to each group's subjects, for printing.

    Args:
        cohort: as it was selected.
        modalities: of the study.

    Returns:
        (what, number of subjects) from the top down; the first number is the sum of the
        subjects that stay and the ``cohort`` exclusions.
    """
    out = Counter(e.reason for e in cohort.exclusions if e.scope == "cohort")
    lines = [("found", len(cohort.subjects) + sum(out.values()))]
    lines += [(f"excluded: {reason}", number) for reason, number in sorted(out.items())]
    lines.append(("in the cohort", len(cohort.subjects)))
    given = [s.label for s in cohort.subjects if s.score is None]
    if len(given) < len(cohort.subjects):
        lines.append(("  labelled by each split", len(cohort.subjects) - len(given)))
    lines.append(("  methylated", sum(given)))
    lines.append(("  unmethylated", len(given) - sum(given)))
    predicted = sum(s.mask_kind == "predicted" for s in cohort.subjects)
    lines += [("  with a predicted mask", predicted)] if predicted else []
    for group, members in group_modalities(modalities).items():
        number = sum(s.has_all(members) for s in cohort.subjects)
        lines.append((f"  with {group}", number))
    return lines
