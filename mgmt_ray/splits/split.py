"""A split: each subject's role, the labels that follow from it, and ``splits.json``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter

from mgmt_ray.base import MgmtError, fingerprint, write_json
from mgmt_ray.cohort.cohort import Cohort

_REDRAW_REMEDY = "Delete splits.json and the trials trained with it, then rerun."


@dataclass(frozen=True, slots=True)
class Split:
    """Sorted ids by role; each subject has exactly one role.

    Attributes:
        test: held out until models are selected.
        folds: the training set in parts; each trial validates on one of them.
        left_out: used neither for training nor for testing.
        cohort: roster hash of the cohort that was divided, labels included.
        outer_fold: index of this split among the study's, from 0.
        cutoff: scores above it are methylated; the median of the training subjects' scores, None
            where labels are given.

    Raises:
        MgmtError: a subject has several roles.

    >>> split = Split(test=("P1",), folds=(("P2",), ("P3",)), left_out=(), seed=0, cohort="")
    >>> split.training
    ('P2', 'P3')
    >>> split.fold(0, available={"P1", "P2", "P3"})
    (('P3',), ('P2',))
    """

    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    seed: int
    cohort: str
    outer_fold: int = 0
    cutoff: float | None = None

    def __post_init__(self) -> None:
        subjects = [s for _, ids in self.roles for s in ids]
        duplicates = sorted(s for s, number in Counter(subjects).items() if number > 1)
        if duplicates:
            raise MgmtError(
                f"splits: {', '.join(duplicates)} would have two roles. {_REDRAW_REMEDY}"
            )

    @property
    def roles(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Name and ids of each role: test, left out, and one for each fold."""
        folds = ((f"fold {i}", fold) for i, fold in enumerate(self.folds))
        return ("test", self.test), ("left out", self.left_out), *folds

    @property
    def hash(self) -> str:
        """Fingerprint of all attributes."""
        return _fingerprint(self)

    @property
    def training(self) -> tuple[str, ...]:
        """Ids of all folds, sorted."""
        return tuple(sorted(s for fold in self.folds for s in fold))

    def fold(self, index: int, available: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the training ids and the validation ids of a fold, of the available subjects."""
        validation = set(self.folds[index])
        train = tuple(s for s in self.training if s not in validation and s in available)
        return train, tuple(s for s in self.folds[index] if s in available)


@lru_cache(maxsize=1024)
def _fingerprint(split: Split) -> str:
    """Made once: each of a study's trials asks for it, and it takes as long as the cohort is."""
    return fingerprint(asdict(split))


def resolve_labels(split: Split, cohort: Cohort) -> dict[str, int]:
    """Return each subject's label; scores are compared with the training subjects' cut-off.

    Raises:
        MgmtError: there are scores, but no training subject has one.

    >>> from mgmt_ray.cohort.subject import Subject
    >>> cohort = Cohort((Subject("P1", 1, {}, None), Subject("P2", 0, {}, None, score=0.4)))
    >>> resolve_labels(Split((), (("P1",),), ("P2",), 0, "", cutoff=0.3), cohort)
    {'P1': 1, 'P2': 1}
    """
    scored = [s.id for s in cohort.subjects if s.score is not None]
    if scored and split.cutoff is None:
        raise MgmtError(
            f"splits: {', '.join(scored[:5])} have a score instead of a label, but no training "
            "subject has one, so there is no cut-off. Give these subjects labels, or leave them "
            "out with cohort.exclude."
        )
    return {
        s.id: s.label if s.score is None or split.cutoff is None else int(s.score > split.cutoff)
        for s in cohort.subjects
    }


def check_group_leakage(split: Split, cohort: Cohort) -> None:
    """Check that all subjects of a person have the same role.

    Raises:
        MgmtError: names the person and the roles.

    >>> from mgmt_ray.cohort.subject import Subject
    >>> cohort = Cohort(tuple(Subject(name, 1, {}, None, person="Anna") for name in ("P1", "P2")))
    >>> check_group_leakage(Split((), (("P1", "P2"),), (), seed=0, cohort=""), cohort)
    >>> try:
    ...     check_group_leakage(Split(("P1",), (("P2",),), (), seed=0, cohort=""), cohort)
    ... except MgmtError as error:
    ...     print(str(error).split(". ")[0])
    splits: person Anna would have two roles (P2 in fold 0, P1 in test)
    """
    role = {subject: name for name, ids in split.roles for subject in ids}
    by_person: dict[str, dict[str, str]] = {}
    for subject in cohort.subjects:
        if subject.id in role:
            by_person.setdefault(subject.person, {})[role[subject.id]] = subject.id
    for person, subjects in sorted(by_person.items()):
        if len(subjects) > 1:
            roles = ", ".join(f"{subject} in {name}" for name, subject in sorted(subjects.items()))
            raise MgmtError(
                f"splits: person {person} would have two roles ({roles}). {_REDRAW_REMEDY}"
            )


def check_classes(split: Split, cohort: Cohort, modalities: tuple[str, ...]) -> None:
    """Check that the test set, and every fold in each modality, has both classes.

    Raises:
        MgmtError: names the test set, or the modality and fold.
    """
    label = resolve_labels(split, cohort)
    if {label[s] for s in split.test} != {0, 1}:
        raise MgmtError(
            f"split: the test set of {len(split.test)} subjects has only one class; it is drawn "
            "from subjects with every modality. Raise split.test_fraction (or lower outer_folds), "
            "or list fewer modalities."
        )
    for modality in modalities:
        available = {s.id for s in cohort.subjects if modality in s.scans}
        if {label[s] for s in split.test if s in available} != {0, 1}:
            raise MgmtError(
                f"split: in {modality}, the test subjects do not have both classes. Raise "
                "split.test_fraction, give other numbers in split.test_subjects, or another "
                "split.seed."
            )
        for number, fold in enumerate(split.folds):
            if {label[s] for s in fold if s in available} != {0, 1}:
                raise MgmtError(
                    f"split: in {modality}, fold {number} does not have both classes. "
                    "Lower split.folds, or remove the modality."
                )


def write_splits(splits: Sequence[Split], path: Path) -> None:
    """Write ``splits.json`` with a hash of each split and one of all."""
    content = [{**asdict(split), "hash": split.hash} for split in splits]
    write_json(path, {"splits": content, "hash": fingerprint([s.hash for s in splits])})


def read_splits(path: Path) -> tuple[Split, ...]:
    """Read ``splits.json``.

    Raises:
        MgmtError: the file was edited, or gives a subject two roles.

    >>> import tempfile
    >>> splits = (Split(("P1",), (("P2",), ("P3",)), (), seed=0, cohort=""),)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_splits(splits, Path(folder, "splits.json"))
    ...     read_splits(Path(folder, "splits.json")) == splits
    True
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        splits = TypeAdapter(tuple[Split, ...]).validate_python(content["splits"])
        hashes = [split["hash"] for split in content["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise MgmtError(
            f"{path}: is not a file of splits as this version writes it. {_REDRAW_REMEDY}"
        ) from error
    complete = content.get("hash") == fingerprint(hashes)
    if not splits or not complete or [split.hash for split in splits] != hashes:
        raise MgmtError(
            f"{path}: its hash does not match its content, so it was changed after it was written. "
            "Restore it, or delete it and the trials trained with it."
        )
    return splits
