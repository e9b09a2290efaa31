"""Who tests, who trains, in which fold, and who is left out (SPEC section A, Split)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import Field

from mgmt_ray.base import Config, MgmtError, fingerprint, stream, write_json
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import MODALITIES, Subject


class SplitConfig(Config):
    """How subjects are divided."""

    seed: int = Field(0, description="of the draws of test set and folds")
    test_fraction: float = Field(0.3, gt=0, lt=1, description="share of subjects held out")
    folds: int = Field(5, ge=2, description="parts of the training set; each validates once")
    drop_rest: bool = Field(
        True,
        description="leave out test_fraction of the subjects that lack a modality, as the paper "
        "does; false lets them all train",
    )


@dataclass(frozen=True, slots=True)
class Split:
    """Sorted ids by role; a subject has exactly one.

    Attributes:
        test: held out until models are chosen.
        folds: the training set in parts; of a modality's trials, one part validates.
        left_out: neither trained nor tested on.
        seed: of the draws.
        cohort: hash of the cohort that was divided, with its labels.
    """

    test: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    seed: int
    cohort: str

    def __post_init__(self) -> None:
        everyone = [*self.test, *self.left_out, *(s for fold in self.folds for s in fold)]
        twice = sorted({s for s in everyone if everyone.count(s) > 1})
        if twice:
            raise MgmtError(
                f"splits: {', '.join(twice)} would be on two sides. "
                "Delete splits.json and the trials made with it, then run again."
            )

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


def make_split(
    cohort: Cohort, config: SplitConfig, modalities: tuple[str, ...] = MODALITIES
) -> Split:
    """Draw a common test set and folds, stratified by label.

    Folds are balanced by label and by which modalities a subject has, so that every modality
    finds its classes in every fold.

    Test subjects have every modality, so that all models are tested on the same ones; on the public
    cohort these are the subjects with DSC.

    Args:
        cohort: to divide.
        config: how.
        modalities: those of the study.

    Raises:
        MgmtError: the test set or a fold would lack one of the classes.
    """
    complete = [s for s in cohort.subjects if set(modalities) <= set(s.scans)]
    rest = [s for s in cohort.subjects if not set(modalities) <= set(s.scans)]
    test = _draw(complete, config, "test")
    left_out = _draw(rest, config, "left out") if config.drop_rest else set()
    training = [s for s in cohort.subjects if s.id not in test | left_out]
    for label, name in ((1, "methylated"), (0, "unmethylated")):
        number = sum(s.label == label for s in training)
        if number < config.folds:
            raise MgmtError(
                f"split: {number} {name} subjects are left for {config.folds} training folds. "
                "Lower split.folds or add subjects."
            )
    folds = _deal(training, config, modalities)
    _refuse_missing_classes(cohort, test, folds, modalities)
    return Split(
        test=tuple(sorted(test)),
        folds=folds,
        left_out=tuple(sorted(left_out)),
        seed=config.seed,
        cohort=cohort.hash,
    )


def _refuse_missing_classes(
    cohort: Cohort,
    test: set[str],
    folds: tuple[tuple[str, ...], ...],
    modalities: tuple[str, ...],
) -> None:
    """Raise unless the test set, and every fold in each modality, has both classes."""
    if {s.label for s in cohort.subjects if s.id in test} != {0, 1}:
        raise MgmtError(
            f"split: the test set of {len(test)} subjects lacks a class; it is drawn among those "
            "with every modality. Raise split.test_fraction, or list fewer modalities."
        )
    for modality in modalities:
        labels = {s.id: s.label for s in cohort.subjects if modality in s.scans}
        for number, fold in enumerate(folds):
            if {labels[s] for s in fold if s in labels} != {0, 1}:
                raise MgmtError(
                    f"split: in {modality}, fold {number} lacks a class. "
                    "Lower split.folds, or leave the modality out."
                )


def write_split(split: Split, path: Path) -> None:
    """Write ``splits.json`` with its hash."""
    write_json(path, {**asdict(split), "hash": split.hash})


def read_split(path: Path) -> Split:
    """Read ``splits.json``.

    Raises:
        MgmtError: the file was changed by hand, or puts a subject on two sides.
    """
    content = json.loads(path.read_text())
    split = Split(
        test=tuple(content["test"]),
        folds=tuple(tuple(fold) for fold in content["folds"]),
        left_out=tuple(content["left_out"]),
        seed=content["seed"],
        cohort=content["cohort"],
    )
    if split.hash != content["hash"]:
        raise MgmtError(
            f"{path}: its hash does not fit its content, so it was changed after it was made. "
            "Restore it, or delete it and the trials made with it."
        )
    return split


def _draw(subjects: Sequence[Subject], config: SplitConfig, purpose: str) -> set[str]:
    """Ids of a stratified share, rounded up in all as scikit-learn does, nearest per class."""
    by_label = {label: sorted(s.id for s in subjects if s.label == label) for label in (0, 1)}
    wanted = -int(-config.test_fraction * len(subjects) // 1)
    methylated = round(wanted * len(by_label[1]) / max(len(subjects), 1))
    drawn: set[str] = set()
    for label, number in ((1, methylated), (0, wanted - methylated)):
        order = stream(config.seed, purpose, label).permutation(len(by_label[label]))
        drawn |= {by_label[label][i] for i in order[:number]}
    return drawn


def _deal(
    subjects: Sequence[Subject], config: SplitConfig, modalities: tuple[str, ...]
) -> tuple[tuple[str, ...], ...]:
    """Deal subjects in turn, class by class and, within it, by which modalities they have."""
    folds: list[list[str]] = [[] for _ in range(config.folds)]
    order = stream(config.seed, "folds").permutation(len(subjects))
    shuffled = [sorted(subjects, key=lambda s: s.id)[i] for i in order]
    shuffled.sort(key=lambda s: (s.label, [m in s.scans for m in modalities]))
    for position, subject in enumerate(shuffled):
        folds[position % config.folds].append(subject.id)
    return tuple(tuple(sorted(fold)) for fold in folds)
