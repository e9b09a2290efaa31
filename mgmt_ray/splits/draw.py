"""Drawing splits, by person and stratified by label (Schmitz et al. 2024, sec. 2.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from statistics import median
from typing import Literal, TypeAlias

import numpy as np
from pydantic import Field, model_validator

from mgmt_ray.base import Config, MgmtError, later_key, stream
from mgmt_ray.cohort.cohort import Cohort
from mgmt_ray.cohort.subject import MODALITIES, Subject, group_modalities
from mgmt_ray.splits.split import Split, check_classes, check_group_leakage

ATTEMPTS = 10_000
"""Draws of the left-out subjects before ``left_out_with`` is called impossible."""

Person: TypeAlias = tuple[Subject, ...]
"""All subjects of one person, sorted by id; they share one role."""


class SplitConfig(Config):
    """How a cohort is divided into test set and folds."""

    seed: int = Field(0, description="of the draws of test set and folds")
    test_fraction: float = Field(0.3, gt=0, lt=1, description="share of subjects held out")
    test_set: Literal["shared", "per_modality"] = later_key(
        "shared",
        description="shared: test subjects have every modality, and all models the same ones; "
        "per_modality: each modality has its share of test subjects, who may lack others",
    )
    test_subjects: dict[str, int] = later_key(
        {},
        description="per_modality: number of test subjects with a modality, like {FLAIR: 15}, "
        "instead of test_fraction of them",
    )
    outer_folds: int = Field(
        0,
        ge=0,
        description="nested cross-validation: this many test sets instead of one, in which every "
        "subject with all modalities is tested once; the others train in all, none is left out",
    )
    repeats: int = Field(
        1, ge=1, description="repetitions of the whole draw, each with its own seeds"
    )
    folds: int = Field(5, ge=2, description="parts of the training set; each validates once")
    drop_rest: bool = Field(
        True,
        description="leave out test_fraction of the subjects without all modalities, as the paper "
        "does; false trains on all of them",
    )
    left_out_with: dict[str, int] = Field(
        {},
        description="number of left-out subjects with a modality group, like {DTI: 10}; the draw "
        "is repeated until it matches",
    )

    @model_validator(mode="after")
    def _check_values(self) -> SplitConfig:
        if self.outer_folds == 1:
            raise ValueError("outer_folds: 1 leaves no training subjects; write 0, or 2 or more")
        if self.test_set == "per_modality" and (self.outer_folds or self.drop_rest):
            raise ValueError(
                "test_set: per_modality leaves no subject out and draws one test set; write "
                "drop_rest: false, and no outer_folds"
            )
        if self.test_subjects and self.test_set == "shared":
            raise ValueError("test_subjects: applies to test_set: per_modality only. Remove it")
        if self.left_out_with and (self.outer_folds or not self.drop_rest):
            raise ValueError(
                "left_out_with: no subject is left out with outer_folds or drop_rest: false; "
                "remove it"
            )
        return self


def make_splits(
    cohort: Cohort, config: SplitConfig, modalities: tuple[str, ...] = MODALITIES
) -> tuple[Split, ...]:
    """Draw test sets that all models share, and folds, stratified by label.

    Persons are drawn and their subjects counted: a person with more subjects than are still needed
    is skipped. Folds are balanced by label and by the modalities that a person has, so that every
    modality has both classes in every fold. Where labels follow from scores, test sets are drawn
    without using them, so that no test subject's score influences anything.

    Test subjects have every modality, so that all models are tested on the same subjects; in the
    public cohort these are the subjects with DSC. A person is tested on only if all of its subjects
    have every modality. With ``test_set: per_modality`` test subjects may lack modalities, and each
    model is tested on those that have its own.

    Returns:
        ``repeats`` × ``outer_folds`` splits (or ``repeats``, without outer folds).

    Raises:
        MgmtError: the cohort, the test set or a fold would have only one class, a person has two
            labels, or the cohort cannot satisfy the configuration.

    >>> cohort = Cohort(tuple(Subject(f"P{i:02}", i % 2, {}, None) for i in range(20)))
    >>> (split,) = make_splits(cohort, SplitConfig(folds=2), modalities=())
    >>> split.test
    ('P00', 'P06', 'P07', 'P09', 'P10', 'P17')
    >>> [len(fold) for fold in split.folds]
    [7, 7]
    """
    if config.repeats > 1 and any(s.score is not None for s in cohort.subjects):
        raise MgmtError(
            "split.repeats: labels that follow from a score differ between repeats, so they do not "
            "average. Set repeats: 1, or use a rule that gives labels (stp27)."
        )
    classes = {s.label if s.score is None else None for s in cohort.subjects}
    if classes in ({0}, {1}):
        names = ("unmethylated", "methylated")
        only, other = names if classes == {0} else names[::-1]
        raise MgmtError(
            f"cohort: all {len(cohort.subjects)} subjects are {only}, and a network learns from "
            f"both classes. Check the labels in the cohort's table, or add {other} subjects."
        )
    persons = _persons(cohort)
    draws = (_test_sets(persons, config, modalities, repeat) for repeat in range(config.repeats))
    return tuple(
        _complete_split(cohort, persons, config, modalities, test, left_out, number)
        for number, (test, left_out) in enumerate(chain.from_iterable(draws))
    )


def _persons(cohort: Cohort) -> list[Person]:
    """Return all persons, sorted by their first id; labels that follow from scores are hidden."""
    by_person: dict[str, list[Subject]] = {}
    for subject in cohort.subjects:
        blinded = subject if subject.score is None else replace(subject, label=0)
        by_person.setdefault(subject.person, []).append(blinded)
    for person, subjects in by_person.items():
        if len({s.label if s.score is None else s.score for s in subjects}) > 1:
            raise MgmtError(
                f"split: person {person} has several labels "
                f"({', '.join(f'{s.id} {s.label}' for s in subjects)}). "
                "Find out which is right; leave the others out with cohort.exclude."
            )
    return [tuple(subjects) for subjects in by_person.values()]


def _test_sets(
    persons: Sequence[Person], config: SplitConfig, modalities: tuple[str, ...], repeat: int
) -> Iterator[tuple[set[str], set[str]]]:
    """Yield the test ids and the left-out ids of each split of one repeat."""
    complete, incomplete = _by_completeness(persons, modalities)
    first = repeat * max(config.outer_folds, 1)
    if config.outer_folds:
        random = _stream(config, first, "outer folds")
        for part in _stratified_parts(complete, config.outer_folds, modalities, random):
            yield set(part), set()
        return
    if config.test_set == "per_modality":
        yield _test_per_modality(persons, config, modalities, first), set()
        return
    test = _stratified_share(complete, config, _streams(config, first, "test"))
    left_out = _leave_out(incomplete, config, modalities, first) if config.drop_rest else set()
    yield {s.id for p in test for s in p}, left_out


def _test_per_modality(
    persons: Sequence[Person], config: SplitConfig, modalities: tuple[str, ...], number: int
) -> set[str]:
    """Draw a test set with a given number of subjects of each modality, stratified by label.

    Persons are taken in a random order while none of their modalities would have too many; the
    order is drawn again until all numbers are met.
    """
    unknown = sorted({*config.test_subjects} - {*modalities})
    if unknown:
        raise MgmtError(f"split.test_subjects: the study has no {', '.join(unknown)}. Remove it.")
    counts = {person[0].id: Counter(m for s in person for m in s.scans) for person in persons}
    streams = _streams(config, number, "test")
    test: set[str] = set()
    wanted = {m: _numbers_by_label(persons, counts, config, m) for m in modalities}
    for label, random in streams.items():
        candidates = [p for p in persons if p[0].label == label]
        for _ in range(ATTEMPTS):
            remaining = {m: wanted[m][label] for m in modalities}
            drawn: list[Person] = []
            for index in random.permutation(len(candidates)):
                has = {m: counts[candidates[index][0].id][m] for m in modalities}
                if any(has.values()) and all(has[m] <= remaining[m] for m in modalities):
                    drawn.append(candidates[index])
                    remaining = {m: remaining[m] - has[m] for m in modalities}
            if not any(remaining.values()):
                break
        else:
            raise MgmtError(
                f"split.test_set: in {ATTEMPTS} draws no test set had "
                f"{', '.join(f'{sum(n.values())} with {m}' for m, n in wanted.items())}. Set other "
                "numbers in split.test_subjects."
            )
        test |= {s.id for person in drawn for s in person}
    return test


def _numbers_by_label(
    persons: Sequence[Person],
    counts: Mapping[str, Counter[str]],
    config: SplitConfig,
    modality: str,
) -> dict[int, int]:
    """Return how many test subjects with a modality each label has."""
    available = Counter[int]()
    for person in persons:
        available[person[0].label] += counts[person[0].id][modality]
    share = -int(-config.test_fraction * available.total() // 1)
    total = config.test_subjects.get(modality, share)
    methylated = round(total * available[1] / max(available.total(), 1))
    return {0: total - methylated, 1: methylated}


def _by_completeness(
    persons: Sequence[Person], modalities: tuple[str, ...]
) -> tuple[list[Person], list[Person]]:
    """Return the persons whose subjects all have every modality, and the others."""
    by_completeness: dict[bool, list[Person]] = {True: [], False: []}
    for person in persons:
        by_completeness[all(s.has_all(modalities) for s in person)].append(person)
    return by_completeness[True], by_completeness[False]


def _leave_out(
    persons: Sequence[Person], config: SplitConfig, modalities: tuple[str, ...], number: int
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
        drawn = [s for person in _stratified_share(persons, config, streams) for s in person]
        counts = {g: sum(s.has_all(groups[g]) for s in drawn) for g in config.left_out_with}
        if counts == config.left_out_with:
            return {s.id for s in drawn}
    required = ", ".join(f"{n} with {group}" for group, n in config.left_out_with.items())
    raise MgmtError(
        f"split.left_out_with: {len(drawn)} of {sum(map(len, persons))} subjects are left out, and "
        f"in {ATTEMPTS} draws they never included {required}. Remove the option."
    )


def _complete_split(
    cohort: Cohort,
    persons: Sequence[Person],
    config: SplitConfig,
    modalities: tuple[str, ...],
    test: set[str],
    left_out: set[str],
    number: int,
) -> Split:
    """Fit the cut-off of scores and draw the folds of a split whose test set is drawn."""
    training = [p for p in persons if p[0].id not in test | left_out]
    scores = [s.score for person in training for s in person if s.score is not None]
    cutoff = median(scores) if scores else None
    training = [tuple(_apply_cutoff(s, cutoff) for s in person) for person in training]
    for label, name in ((1, "methylated"), (0, "unmethylated")):
        num_persons = sum(p[0].label == label for p in training)
        if num_persons < config.folds:
            raise MgmtError(
                f"split: {num_persons} {name} patients remain for {config.folds} training folds. "
                "Lower split.folds or add subjects."
            )
    split = Split(
        test=tuple(sorted(test)),
        folds=_stratified_parts(
            training, config.folds, modalities, _stream(config, number, "folds")
        ),
        left_out=tuple(sorted(left_out)),
        seed=config.seed,
        cohort=cohort.roster_hash,  # masks do not influence roles
        outer_fold=number,
        cutoff=cutoff,
    )
    check_group_leakage(split, cohort)
    check_classes(split, cohort, modalities)
    return split


def _apply_cutoff(subject: Subject, cutoff: float | None) -> Subject:
    """Return the subject with the label that follows from its score, if it has one."""
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
    """Draw ``test_fraction`` of the subjects, stratified by label.

    The total is rounded up, as in scikit-learn, and the number of each class to the nearest.
    """
    by_label = {label: [p for p in persons if p[0].label == label] for label in (0, 1)}
    num_subjects = sum(map(len, persons))
    total = -int(-config.test_fraction * num_subjects // 1)
    methylated = round(total * sum(map(len, by_label[1])) / max(num_subjects, 1))
    drawn: list[Person] = []
    for label, number in ((1, methylated), (0, total - methylated)):
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
    """Assign persons to parts class by class and, within a class, by the modalities they have.

    Each person goes to the part with the fewest subjects of the class, then of the class with these
    modalities, then of all; so persons with one subject each are assigned in turn.
    """

    def stratum(person: Person) -> tuple[int, tuple[bool, ...]]:
        return person[0].label, tuple(m in s.scans for s in person for m in modalities)

    shuffled = [persons[i] for i in random.permutation(len(persons))]
    shuffled.sort(key=lambda person: (*stratum(person), -len(person)))
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    counts: list[Counter[object]] = [Counter() for _ in parts]
    for person in shuffled:
        keys = (person[0].label, stratum(person), "all")
        part = min(range(num_parts), key=lambda i: [counts[i][key] for key in keys])
        counts[part].update({key: len(person) for key in keys})
        parts[part] += [s.id for s in person]
    return tuple(tuple(sorted(part)) for part in parts)


def make_inner_folds(
    training: Sequence[str], person: Mapping[str, str], num_parts: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Divide a fold's training ids into sorted parts; a person's subjects stay together.

    Parts differ by at most one in their numbers of persons. The random stream is named "parts".

    Raises:
        MgmtError: there are fewer persons than parts.

    >>> make_inner_folds(["a1", "a2", "b"], {"a1": "A", "a2": "A", "b": "B"}, 2, seed=0)
    (('a1', 'a2'), ('b',))
    """
    persons = sorted({person[subject] for subject in training})
    if len(persons) < num_parts:
        raise MgmtError(
            f"{len(persons)} training patients are too few for {num_parts} parts. Lower parts of "
            "the network of kind slices, or set cross_fitted: false."
        )
    order = stream(seed, "parts").permutation(len(persons))
    part = {persons[i]: position % num_parts for position, i in enumerate(order)}
    return tuple(
        tuple(sorted(s for s in training if part[person[s]] == number))
        for number in range(num_parts)
    )
