"""A split: everybody's role, the labels that follow from it, and its file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mgmt_ray.base import MgmtError, fingerprint, write_json
from mgmt_ray.cohort.cohort import Cohort

_REDRAW_REMEDY = "Delete splits.json and the trials made with it, then run again."


@dataclass(frozen=True, slots=True)
class Split:
    """Sorted ids by role; a subject has exactly one.

    Attributes:
        test: held out until models are chosen.
        folds: the training set in parts; of a modality's trials, one part validates.
        left_out: neither trained nor tested on.
        seed: of the draws.
        cohort: roster hash of the cohort that was divided, with its labels.
        outer_fold: number of this split among the study's, from 0.
        cutoff: scores above it are methylated; the median of the training subjects' scores, None
            where labels are given.
    """

    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    seed: int
    cohort: str
    outer_fold: int = 0
    cutoff: float | None = None

    def __post_init__(self) -> None:
        everyone = [s for _, ids in self.roles for s in ids]
        twice = sorted(s for s, number in Counter(everyone).items() if number > 1)
        if twice:
            raise MgmtError(f"splits: {', '.join(twice)} would be on two sides. {_REDRAW_REMEDY}")

    @property
    def roles(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each role's name and its ids."""
        folds = ((f"fold {i}", fold) for i, fold in enumerate(self.folds))
        return ("test", self.test), ("left out", self.left_out), *folds

    @property
    def hash(self) -> str:
        """Fingerprint of every role."""
        return fingerprint(asdict(self))

    @property
    def training(self) -> tuple[str, ...]:
        """Ids of all folds, sorted."""
        return tuple(sorted(s for fold in self.folds for s in fold))

    def fold(self, index: int, available: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Ids that train and ids that validate in a fold, of those that are available."""
        validation = set(self.folds[index])
        train = tuple(s for s in self.training if s not in validation and s in available)
        return train, tuple(s for s in self.folds[index] if s in available)


def resolve_labels(split: Split, cohort: Cohort) -> dict[str, int]:
    """Everybody's label; one that follows from a score uses the training subjects' cut-off.

    Raises:
        MgmtError: there are scores, but no training subject has one.
    """
    scored = [s.id for s in cohort.subjects if s.score is not None]
    if scored and split.cutoff is None:
        raise MgmtError(
            f"splits: {', '.join(scored[:5])} have a score for a label, but no training subject "
            "has one, so there is no cut-off. Give these labels, or leave the subjects out."
        )
    return {
        s.id: s.label if s.score is None or split.cutoff is None else int(s.score > split.cutoff)
        for s in cohort.subjects
    }


def check_group_leakage(split: Split, cohort: Cohort) -> None:
    """Raise MgmtError where two subjects that are one person have different roles."""
    role = {subject: name for name, ids in split.roles for subject in ids}
    by_person: dict[str, dict[str, str]] = {}
    for subject in cohort.subjects:
        if subject.id in role:
            by_person.setdefault(subject.person, {})[role[subject.id]] = subject.id
    for person, found in sorted(by_person.items()):
        if len(found) > 1:
            where = ", ".join(f"{subject} in {name}" for name, subject in sorted(found.items()))
            raise MgmtError(
                f"splits: person {person} would be on two sides ({where}). {_REDRAW_REMEDY}"
            )


def check_classes(split: Split, cohort: Cohort, modalities: tuple[str, ...]) -> None:
    """Raise MgmtError unless the test set, and every fold in each modality, has both classes."""
    label = resolve_labels(split, cohort)
    if {label[s] for s in split.test} != {0, 1}:
        raise MgmtError(
            f"split: the test set of {len(split.test)} subjects lacks a class; it is drawn among "
            "those with every modality. Raise split.test_fraction (with outer_folds, lower these), "
            "or list fewer modalities."
        )
    for modality in modalities:
        having = {s.id for s in cohort.subjects if modality in s.scans}
        for number, fold in enumerate(split.folds):
            if {label[s] for s in fold if s in having} != {0, 1}:
                raise MgmtError(
                    f"split: in {modality}, fold {number} lacks a class. "
                    "Lower split.folds, or leave the modality out."
                )


def write_splits(splits: Sequence[Split], path: Path) -> None:
    """Write ``splits.json`` with its hashes."""
    content = [{**asdict(split), "hash": split.hash} for split in splits]
    write_json(path, {"splits": content, "hash": fingerprint([s.hash for s in splits])})


def read_splits(path: Path) -> tuple[Split, ...]:
    """Read ``splits.json``.

    Raises:
        MgmtError: the file was changed by hand, or puts a subject on two sides.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        splits = tuple(
            Split(
                test=tuple(split["test"]),
                folds=tuple(tuple(fold) for fold in split["folds"]),
                left_out=tuple(split["left_out"]),
                seed=split["seed"],
                cohort=split["cohort"],
                outer_fold=split["outer_fold"],
                cutoff=split["cutoff"],
            )
            for split in content["splits"]
        )
        written = [split["hash"] for split in content["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise MgmtError(
            f"{path}: is not a file of splits as this version makes it. {_REDRAW_REMEDY}"
        ) from (error)
    whole = content.get("hash") == fingerprint(written)
    if not splits or not whole or [split.hash for split in splits] != written:
        raise MgmtError(
            f"{path}: its hash does not fit its content, so it was changed after it was made. "
            "Restore it, or delete it and the trials made with it."
        )
    return splits
