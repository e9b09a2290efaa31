"""From what a reader found to the cohort of a study: each problem is covered, or it stops us."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mgmt_ray.base import MgmtError, write_csv
from mgmt_ray.cohort.cohort import Cohort, Exclusion
from mgmt_ray.cohort.persons import (
    Crosswalk,
    SubjectKey,
    find_persons,
    find_shared_voxels,
    list_persons,
)
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import ReaderConfig, ReaderResult
from mgmt_ray.cohort.subject import Subject

SAME_PERSON_REMEDY = "also in the study's own cohort"
MASK = "mask"
"""Stands for a modality where hashes are compared."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and what in the study covers it; empty when nothing does."""

    problem: Problem
    covered_by: str


@dataclass(frozen=True, slots=True)
class CohortSelection:
    """A cohort with all that was found wrong on the way.

    Attributes:
        cohort: to be used only when nothing is ``unresolved``.
        findings: every problem, sorted by subject.
    """

    cohort: Cohort
    findings: tuple[Finding, ...]

    @property
    def unresolved(self) -> tuple[Problem, ...]:
        """Problems about which the study says nothing."""
        return tuple(f.problem for f in self.findings if not f.covered_by)


def select_subjects(
    result: ReaderResult,
    config: ReaderConfig,
    file_problems: Iterable[Problem],
    hashes: Mapping[str, Mapping[str, str]],
    crosswalk: Crosswalk = (),
    key: str = "cohort",
) -> CohortSelection:
    """Apply ``exclude`` and ``rules`` to everything that is wrong, and find persons twice there.

    Persons are connected through everybody whom the reader found, also those who are left out.

    Args:
        result: what the reader found.
        config: of the reader.
        file_problems: of the files' content.
        hashes: by subject and modality, of the voxels; the mask's under ``MASK``.
        crosswalk: rows whose ids name one person.
        key: of this cohort in the study's file, for reasons and remedies.

    Raises:
        MgmtError: ``exclude`` names somebody whom the data set does not have.
    """
    problems = [*result.problems, *file_problems]
    _check_known_ids(result, problems, config, key)
    pairs = find_shared_voxels({("", name): own for name, own in hashes.items()})
    copies = [pair for pair in pairs if pair[2] != (MASK,)]
    people = list_persons(result)
    person = find_persons(people, crosswalk)
    everything = find_persons(people, crosswalk, [pair[:2] for pair in copies])
    if config.rules.get("same_person") == "keep_together":
        person = everything
    found = [replace(s, person=person["", s.id]) for s in result.subjects]
    subjects, exclusions, findings = _apply_rules(found, result.exclusions, problems, config, key)
    strangers = _duplicate_scans(subjects, {s.id: everything["", s.id] for s in subjects}, copies)
    more = [*strangers, *_shared_masks(subjects, pairs), *_conflicting_labels(subjects, everything)]
    subjects, exclusions, later = _apply_rules(subjects, exclusions, more, config, key)
    findings = sorted([*findings, *later], key=lambda f: (f.problem.subject, f.problem.where))
    cohort = Cohort(tuple(subjects), tuple(exclusions))
    return CohortSelection(cohort, tuple(_with_config_key(finding, key) for finding in findings))


def exclude_persons(
    external: Cohort, cohort: Cohort, person: Mapping[SubjectKey, str], name: str
) -> Cohort:
    """An external cohort without the persons of the study's own cohort, whom models may know.

    Args:
        external: to be predicted only.
        cohort: of training and test.
        person: of everybody in both, by all that is known (see ``find_persons``).
        name: of the external cohort.
    """
    known = {person["", s.id] for s in cohort.subjects}
    stay = [s for s in external.subjects if person[name, s.id] not in known]
    gone = [s.id for s in external.subjects if person[name, s.id] in known]
    kept = (e for e in external.exclusions if e.subject not in gone)
    return Cohort(tuple(stay), (*kept, *(Exclusion(s, "cohort", SAME_PERSON_REMEDY) for s in gone)))


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write ``problems.csv``: every problem, and what covers it."""
    rows = [("subject", "kind", "where", "found", "remedy", "modality", "covered_by")]
    for finding in findings:
        p = finding.problem
        rows.append((p.subject, p.kind, p.where, p.found, p.remedy, p.modality, finding.covered_by))
    write_csv(path, rows)


def _with_config_key(finding: Finding, key: str) -> Finding:
    """Readers speak of ``cohort.``; an external cohort has its own section of the study."""
    remedy = finding.problem.remedy.replace("cohort.", f"{key}.")
    return replace(finding, problem=replace(finding.problem, remedy=remedy))


def _check_known_ids(
    result: ReaderResult, problems: Sequence[Problem], config: ReaderConfig, key: str
) -> None:
    found = {s.id for s in result.subjects} | {p.subject for p in problems}
    found |= {e.subject for e in result.exclusions if e.scope == "cohort"}
    unknown = [name for name in config.exclude if name not in found]
    if unknown:
        like = f", whose ids look like {min(found)}" if found else ""
        raise MgmtError(
            f"{key}.exclude: {', '.join(unknown)} not in the data set{like}. "
            "Mend the spelling or remove the id."
        )


def _apply_rules(
    subjects: Iterable[Subject],
    exclusions: Iterable[Exclusion],
    problems: Sequence[Problem],
    config: ReaderConfig,
    key: str,
) -> tuple[list[Subject], list[Exclusion], list[Finding]]:
    """Who stays with which scans, who is out and why, and what covers each problem."""
    by_id = {subject.id: subject for subject in subjects}
    gone = {e.subject for e in exclusions if e.scope == "cohort"}
    reasons = {s: f"left out by {key}.exclude" for s in config.exclude if s not in gone}
    group_of = {m: group for group, members in config.groups.items() for m in members}
    findings: list[Finding] = []
    partly: dict[tuple[str, str], str] = {}
    for problem in problems:
        action = config.rules.get(problem.kind)
        reason = problem.kind.replace("_", " ")
        covered = f"{key}.rules: {problem.kind}: {action}" if action else ""
        if problem.subject in config.exclude:
            covered = f"{key}.exclude"
        elif action == "exclude_subject" or (action == "exclude_scans" and not problem.modality):
            reasons.setdefault(problem.subject, reason)
        elif action == "exclude_scans":
            partly.setdefault((problem.subject, group_of[problem.modality]), reason)
        findings.append(Finding(problem, covered))
    out = [e for e in exclusions if e.scope == "cohort" or e.subject not in reasons]
    for (name, group), reason in partly.items():
        if name in reasons:
            continue
        scans = by_id[name].scans if name in by_id else {}
        left = {m: path for m, path in scans.items() if group_of[m] != group}
        if left:
            by_id[name] = replace(by_id[name], scans=left)
            out.append(Exclusion(name, group, reason))
        else:
            reasons[name] = reason
    known = by_id.keys() | {problem.subject for problem in problems}
    out += [Exclusion(s, "cohort", reason) for s, reason in sorted(reasons.items()) if s in known]
    return [s for s in by_id.values() if s.id not in reasons], out, findings


def _duplicate_scans(
    subjects: Sequence[Subject],
    person: Mapping[str, str],
    pairs: Sequence[tuple[SubjectKey, SubjectKey, tuple[str, ...]]],
) -> list[Problem]:
    """Subjects that share scans with an earlier one who is not known to be the same person."""
    shared = {(first[1], second[1]): modalities for first, second, modalities in pairs}
    first_of: dict[str, Subject] = {}
    problems = []
    for subject in sorted(subjects, key=lambda s: s.id):
        first = first_of.setdefault(person[subject.id], subject)
        if first.person == subject.person:
            continue
        modalities = shared.get((first.id, subject.id), ())
        which = ", ".join(modalities) or "through copies that are left out"
        where = next(
            (subject.scans[m] for m in modalities if m in subject.scans), _any_file(subject)
        )
        problems.append(
            Problem(
                subject.id,
                "same_person",
                str(where),
                f"has the voxels of {first.id} ({which})",
                "Leave one out with cohort.exclude, name both in one row of cohort.crosswalk, or "
                "set cohort.rules.same_person: keep_together or exclude_subject",
            )
        )
    return problems


def _any_file(subject: Subject) -> Path:
    """Any file of a subject, to say where."""
    return subject.mask or next(iter(subject.scans.values()))


def _shared_masks(
    subjects: Sequence[Subject], pairs: Sequence[tuple[SubjectKey, SubjectKey, tuple[str, ...]]]
) -> list[Problem]:
    """Subjects with the mask of another person: no two tumours are equal to the voxel."""
    by_id = {subject.id: subject for subject in subjects}
    return [
        Problem(
            second[1],
            "same_mask",
            str(by_id[second[1]].mask),
            f"has the mask of {first[1]}, with other scans",
            "Give each subject its own mask, or leave one out with cohort.exclude",
        )
        for first, second, modalities in pairs
        if modalities == (MASK,)
        and {first[1], second[1]} <= by_id.keys()
        and by_id[first[1]].person != by_id[second[1]].person
    ]


def _conflicting_labels(
    subjects: Sequence[Subject], person: Mapping[SubjectKey, str]
) -> list[Problem]:
    """Persons of several labels."""
    by_person: dict[str, list[Subject]] = {}
    for subject in subjects:
        by_person.setdefault(person["", subject.id], []).append(subject)
    problems = []
    for group in by_person.values():
        if len({s.label if s.score is None else s.score for s in group}) > 1:
            names = ", ".join(f"{s.id} {s.label if s.score is None else s.score:g}" for s in group)
            problems += [
                Problem(
                    s.id,
                    "two_labels",
                    str(_any_file(s)),
                    f"one person has several labels ({names})",
                    "Find out which is right; leave the others out with cohort.exclude",
                )
                for s in group
            ]
    return problems
