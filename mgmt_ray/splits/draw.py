"""Drawing splits: persons, stratified by label (Schmitz et al. 2024, sec. 2.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import TypeAlias

import numpy as np
from pydantic import Field, model_validator

from mgmt_ray.base import Config, MgmtError, stream
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import MODALITIES, Subject, group_modalities
from mgmt_ray.splits.split import Split, check_classes, check_group_leakage

ATTEMPTS = 10_000
"""Draws of those left out before ``left_out_with`` is called impossible."""

Person: TypeAlias = tuple[Subject, ...]
"""All subjects that are one human being, sorted by id; they share one role."""


class SplitConfig(Config):
    """How subjects are divided."""

    seed: int = Field(0, description="of the draws of test set and folds")
    test_fraction: float = Field(0.3, gt=0, lt=1, description="share of subjects held out")
    outer_folds: int = Field(
        0,
        ge=0,
        description="nested cross-validation: so many test sets instead of one, in which every "
        "subject with all modalities is tested once; the others train in all, nobody is left out",
    )
    repeats: int = Field(1, ge=1, description="whole draws, each with seeds of its own")
    folds: int = Field(5, ge=2, description="parts of the training set; each validates once")
    drop_rest: bool = Field(
        True,
        description="leave out test_fraction of the subjects that lack a modality, as the paper "
        "does; false lets them all train",
    )
    left_out_with: dict[str, int] = Field(
        {}, description="how many of those left out have a group, as {DTI: 10}: drawn until so"
    )

    @model_validator(mode="after")
    def _check_values(self) -> SplitConfig:
        if self.outer_folds == 1:
            raise ValueError("outer_folds: 1 would leave nobody to train; write 0, or 2 and more")
        if self.left_out_with and (self.outer_folds or not self.drop_rest):
            raise ValueError("left_out_with: nobody is left out here; remove it")
        return self


def make_splits(
    cohort: Cohort, config: SplitConfig, modalities: tuple[str, ...] = MODALITIES
) -> tuple[Split, ...]:
    """Draw test sets common to all models, and folds, stratified by label.

    Persons are drawn, and numbers count their subjects: a person whose subjects are more than what
    is still wanted is passed over. Folds are balanced by label and by which modalities a person
    has, so that every modality finds its classes in every fold. Where labels follow from scores,
    test sets are drawn without looking at these, so that no test subject's score moves anything.

    Test subjects have every modality, so that all models are tested on the same ones; on the public
    cohort these are the subjects with DSC. A person of whom one subject lacks a modality is not
    tested on.

    Args:
        cohort: to divide.
        config: how.
        modalities: those of the study.

    Returns:
        ``repeats`` × ``outer_folds`` splits (or ``repeats``, without outer folds).

    Raises:
        MgmtError: the test set or a fold would lack one of the classes, a person has two labels,
            or the study asks for what the cohort cannot give.
    """
    if config.repeats > 1 and any(s.score is not None for s in cohort.subjects):
        raise MgmtError(
            "split.repeats: labels that follow from a score differ between repeats, so they do not "
            "average. Set repeats: 1, or use a rule that gives labels (stp27)."
        )
    persons = _persons(cohort)
    drawn = (_test_sets(persons, config, modalities, repeat) for repeat in range(config.repeats))
    return tuple(
        _split(cohort, persons, config, modalities, test, left_out, number)
        for number, (test, left_out) in enumerate(chain.from_iterable(drawn))
    )


def _persons(cohort: Cohort) -> list[Person]:
    """Everybody, sorted by first id."""
    found: dict[str, list[Subject]] = {}
    for subject in cohort.subjects:
        blind = subject if subject.score is None else replace(subject, label=0)
        found.setdefault(subject.person, []).append(blind)
    for person, subjects in found.items():
        if len({s.label if s.score is None else s.score for s in subjects}) > 1:
            raise MgmtError(
                f"split: person {person} has several labels "
                f"({', '.join(f'{s.id} {s.label}' for s in subjects)}). "
                "Find out which is right; leave the others out with cohort.exclude."
            )
    return [tuple(subjects) for subjects in found.values()]


def _test_sets(
    persons: Sequence[Person], config: SplitConfig, modalities: tuple[str, ...], repeat: int
) -> Iterator[tuple[set[str], set[str]]]:
    """Ids that test and ids that are left out, of one repeat's splits."""
    complete, rest = _by_completeness(persons, modalities)
    first = repeat * max(config.outer_folds, 1)
    if config.outer_folds:
        random = _stream(config, first, "outer folds")
        for part in _stratified_parts(complete, config.outer_folds, modalities, random):
            yield set(part), set()
        return
    test = _stratified_share(complete, config, _streams(config, first, "test"))
    left_out = _leave_out(rest, config, modalities, first) if config.drop_rest else set()
    yield {s.id for p in test for s in p}, left_out


def _by_completeness(
    persons: Sequence[Person], modalities: tuple[str, ...]
) -> tuple[list[Person], list[Person]]:
    complete: list[Person] = []
    rest: list[Person] = []
    for person in persons:
        whole = all(subject.has_all(modalities) for subject in person)
        (complete if whole else rest).append(person)
    return complete, rest


def _leave_out(
    rest: Sequence[Person], config: SplitConfig, modalities: tuple[str, ...], number: int
) -> set[str]:
    groups = group_modalities(modalities)
    unknown = [name for name in config.left_out_with if name not in groups]
    if unknown:
        raise MgmtError(
            f"split.left_out_with: the study has no {', '.join(unknown)} "
            f"(it has {', '.join(groups)}). Remove the option."
        )
    streams = _streams(config, number, "left out")
    for _ in range(ATTEMPTS if config.left_out_with else 1):
        drawn = [s for person in _stratified_share(rest, config, streams) for s in person]
        having = {g: sum(s.has_all(groups[g]) for s in drawn) for g in config.left_out_with}
        if having == config.left_out_with:
            return {s.id for s in drawn}
    wanted = ", ".join(f"{n} with {group}" for group, n in config.left_out_with.items())
    raise MgmtError(
        f"split.left_out_with: this cohort leaves out {len(drawn)} of {sum(map(len, rest))} "
        f"subjects, and in {ATTEMPTS} draws they were never {wanted}. Remove the option."
    )


def _split(
    cohort: Cohort,
    persons: Sequence[Person],
    config: SplitConfig,
    modalities: tuple[str, ...],
    test: set[str],
    left_out: set[str],
    number: int,
) -> Split:
    """One split of which the test set is drawn already."""
    training = [p for p in persons if p[0].id not in test | left_out]
    scores = [s.score for person in training for s in person if s.score is not None]
    cutoff = median(scores) if scores else None
    training = [tuple(_apply_cutoff(s, cutoff) for s in person) for person in training]
    for label, name in ((1, "methylated"), (0, "unmethylated")):
        found = sum(p[0].label == label for p in training)
        if found < config.folds:
            raise MgmtError(
                f"split: {found} {name} subjects are left for {config.folds} training folds. "
                "Lower split.folds or add subjects."
            )
    split = Split(
        test=tuple(sorted(test)),
        folds=_stratified_parts(
            training, config.folds, modalities, _stream(config, number, "folds")
        ),
        left_out=tuple(sorted(left_out)),
        seed=config.seed,
        cohort=cohort.roster_hash,  # a mask moves nobody
        outer_fold=number,
        cutoff=cutoff,
    )
    check_group_leakage(split, cohort)
    check_classes(split, cohort, modalities)
    return split


def _apply_cutoff(subject: Subject, cutoff: float | None) -> Subject:
    """With the label that follows from its score, where it has one."""
    if subject.score is None or cutoff is None:
        return subject
    return replace(subject, label=int(subject.score > cutoff))


def _stream(config: SplitConfig, number: int, *purpose: str | int) -> np.random.Generator:
    return stream(config.seed, *purpose, *(("split", number) if number else ()))


def _streams(config: SplitConfig, number: int, purpose: str) -> dict[int, np.random.Generator]:
    return {label: _stream(config, number, purpose, label) for label in (0, 1)}


def _stratified_share(
    persons: Sequence[Person], config: SplitConfig, streams: Mapping[int, np.random.Generator]
) -> list[Person]:
    """A stratified share, rounded up in all as scikit-learn does, nearest per class."""
    by_label = {label: [p for p in persons if p[0].label == label] for label in (0, 1)}
    num_subjects = sum(map(len, persons))
    wanted = -int(-config.test_fraction * num_subjects // 1)
    methylated = round(wanted * sum(map(len, by_label[1])) / max(num_subjects, 1))
    drawn: list[Person] = []
    for label, number in ((1, methylated), (0, wanted - methylated)):
        for i in streams[label].permutation(len(by_label[label])):
            person = by_label[label][i]
            if len(person) <= number:
                drawn.append(person)
                number -= len(person)
    return drawn


def _stratified_parts(
    persons: Sequence[Person],
    num_parts: int,
    modalities: tuple[str, ...],
    random: np.random.Generator,
) -> tuple[tuple[str, ...], ...]:
    """Deal class by class and, within it, by which modalities persons have.

    The part with the fewest subjects of the class is served next, then of these modalities, then of
    all; persons of one subject are so dealt in turn.
    """

    def kind(person: Person) -> tuple[int, tuple[bool, ...]]:
        return person[0].label, tuple(m in s.scans for s in person for m in modalities)

    shuffled = [persons[i] for i in random.permutation(len(persons))]
    shuffled.sort(key=lambda person: (*kind(person), -len(person)))
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    served: list[Counter[object]] = [Counter() for _ in parts]
    for person in shuffled:
        counted = (person[0].label, kind(person), "all")
        part = min(range(num_parts), key=lambda i: [served[i][what] for what in counted])
        served[part].update({what: len(person) for what in counted})
        parts[part] += [s.id for s in person]
    return tuple(tuple(sorted(part)) for part in parts)


def make_inner_folds(
    training: Sequence[str], person: Mapping[str, str], num_parts: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Deal patients into parts of equal numbers (but for one); a person's subjects stay together.

    Args:
        training: ids of a fold's training subjects.
        person: by id.
        num_parts: how many.
        seed: of the stream "parts".

    Returns:
        Sorted ids by part.

    Raises:
        MgmtError: there are fewer persons than parts.
    """
    persons = sorted({person[subject] for subject in training})
    if len(persons) < num_parts:
        raise MgmtError(
            f"{len(persons)} patients train, too few for {num_parts} parts. Lower parts of the "
            "network of kind slices, or set cross_fitted: false."
        )
    order = stream(seed, "parts").permutation(len(persons))
    part = {persons[who]: place % num_parts for place, who in enumerate(order)}
    return tuple(
        tuple(sorted(s for s in training if part[person[s]] == number))
        for number in range(num_parts)
    )
