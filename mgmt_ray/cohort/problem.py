"""What can be wrong with a subject's files or rows, and what a study says to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mgmt_ray.base import MgmtError

ProblemKind: TypeAlias = Literal[
    "no_file",
    "unreadable",
    "empty_file",
    "truncated",
    "wrong_checksum",
    "damaged",
    "wrong_format",
    "not_3d",
    "not_finite",
    "constant",
    "other_grid",
    "no_mask",
    "empty_mask",
    "empty_predicted_mask",
    "small_tumour",
    "unknown_mask_label",
    "small_scan",
    "clipped",
    "missing_modality",
    "same_voxels",
    "same_person",
    "same_mask",
    "duplicated_subject",
    "two_labels",
    "unknown_label",
]
"""Names of problems, for ``cohort.rules``."""

Action: TypeAlias = Literal["exclude_subject", "exclude_scans", "keep_together"]
"""What a rule does: leave the subject out; leave out the modality group of the scan in question;
or, for ``same_person`` alone, keep all and never put them on two sides of a split."""

PROBLEM_KINDS: tuple[ProblemKind, ...] = get_args(ProblemKind)
SCAN_KINDS: frozenset[ProblemKind] = frozenset(
    PROBLEM_KINDS[: PROBLEM_KINDS.index("other_grid") + 1]
) | {
    "missing_modality",
    "same_voxels",
}
"""Problems that may be of one scan, so that the subject's other scans can stay."""

DOWNLOAD_AGAIN = "Copy or download the file again, or leave the subject out with cohort.exclude"
VIEW_SCAN = "Look at it in a viewer; mend it, or leave the subject out with cohort.exclude"


class BadScan(MgmtError):
    """A scan or mask that must not be used as it is.

    Attributes:
        path: of the file.
        kind: of the problem.
        found: what was found, in words.
        remedy: what to do.
    """

    def __init__(self, path: Path, kind: ProblemKind, found: str, remedy: str) -> None:
        super().__init__(f"{path}: {found}. {remedy}.")
        self.path = path
        self.kind: ProblemKind = kind
        self.found = found
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one subject.

    Attributes:
        subject: its id.
        kind: the name by which a rule covers it.
        where: the file (or table) in question.
        found: what was found, in words.
        remedy: what to do.
        modality: of the scan in question; empty where it is not one scan.
    """

    subject: str
    kind: ProblemKind
    where: str
    found: str
    remedy: str
    modality: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.where}: {self.found} ({self.kind}). {self.remedy}."
