"""Problems of a subject's files or table rows, and the actions that a study can set for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from mgmt_ray.base import MgmtError, first_line

ProblemKind: TypeAlias = Literal[
    "no_file",
    "unreadable",
    "empty_file",
    "truncated",
    "wrong_checksum",
    "damaged",
    "wrong_format",
    "not_3d",
    "unclear_position",
    "impossible_spacing",
    "not_finite",
    "constant",
    "background",
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
    "unknown_covariate",
]
"""Names of problems, for ``cohort.rules``."""

Action: TypeAlias = Literal["exclude_subject", "exclude_scans", "keep_together"]
"""Exclude the subject; exclude the modality group of the affected scan; or, for ``same_person``
only, keep all of a person's subjects and give them the same role in every split."""

PROBLEM_KINDS: tuple[ProblemKind, ...] = get_args(ProblemKind)
SCAN_KINDS: frozenset[ProblemKind] = frozenset(
    PROBLEM_KINDS[: PROBLEM_KINDS.index("other_grid") + 1]
) | {"missing_modality", "same_voxels"}
"""Problems that may affect a single scan, so that the subject's other scans can stay."""

DOWNLOAD_AGAIN = "Copy or download the file again"
VIEW_SCAN = "Look at it in a viewer, and fix it"


class BadScan(MgmtError):
    """A scan or mask that must not be used as it is; attributes as of :class:`Problem`."""

    def __init__(
        self, path: Path, kind: ProblemKind, found: str, remedy: str, setting: str = ""
    ) -> None:
        super().__init__(f"{path}: {found}. {_either(remedy, setting)}.")
        self.path = path
        self.kind: ProblemKind = kind
        self.found = found
        self.remedy = remedy
        self.setting = setting


def _either(remedy: str, setting: str) -> str:
    return f"{remedy}, or {setting}" if setting else remedy


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Raise an error that nothing foresees as a fault of the file, which stops no other subject.

    >>> try:
    ...     with faults_of(Path("t1.nii")):
    ...         raise IndexError("list index out of range")
    ... except BadScan as error:
    ...     print(error.found)
    cannot be used (IndexError: list index out of range)
    """
    try:
        yield
    except (MgmtError, MemoryError):
        raise
    except Exception as error:
        found = f"cannot be used ({type(error).__name__}: {first_line(error)})"
        raise BadScan(path, "damaged", found, DOWNLOAD_AGAIN) from error


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with one subject.

    Attributes:
        kind: key of ``cohort.rules`` that covers it.
        where: the affected file or table.
        found: description of the fault.
        remedy: what can be done about the file or table, with whatever command it is used.
        modality: of the affected scan; empty where the problem is not of a single scan.
        setting: what a study can set instead, before it is trained; empty if nothing but to leave
            the subject out.

    >>> print(Problem("P1", "no_mask", "cohort.csv", "no tumour mask", "Fill in the column mask"))
    P1: cohort.csv: no tumour mask (no_mask). Fill in the column mask.
    """

    subject: str
    kind: ProblemKind
    where: str
    found: str
    remedy: str
    modality: str = ""
    setting: str = ""

    @property
    def fault(self) -> str:
        """What is wrong, without subject and file."""
        return f"{self.found} ({self.kind})"

    def __str__(self) -> str:
        return f"{self.subject}: {self.where}: {self.fault}. {_either(self.remedy, self.setting)}."
