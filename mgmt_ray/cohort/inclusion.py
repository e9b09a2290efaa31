"""From a reader's result to the cohort of a study: exclusions, rules and unresolved problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
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

SAME_PERSON_REASON = "also in the study's own cohort"
MASK = "mask"
"""Key of the mask among the hashes of a subject's modalities."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem and the key of the study that covers it; empty where it is unresolved."""

    problem: Problem
    covered_by: str


PROBLEM_COLUMNS = (*(field.name for field in fields(Problem)), "covered_by")
"""Of ``problems.csv``."""


@dataclass(frozen=True, slots=True)
class CohortSelection:
    """A study's cohort and every problem of its subjects.

    Attributes:
        cohort: to be used only when nothing is ``unresolved``.
        findings: sorted by subject.
    """

    cohort: Cohort
    findings: tuple[Finding, ...]

    @property
    def unresolved(self) -> tuple[Problem, ...]:
        """Problems that no key of the study covers."""
        return tuple(f.problem for f in self.findings if not f.covered_by)


def select_subjects(
    result: ReaderResult,
    config: ReaderConfig,
    file_problems: Iterable[Problem],
    hashes: Mapping[str, Mapping[str, str]],
    crosswalk: Crosswalk = (),
    key: str = "cohort",
) -> CohortSelection:
    """Apply ``exclude`` and ``rules`` to all problems, and find duplicates of persons.

    Subjects are matched to persons through all ids that the reader found, excluded ones included.

    Args:
        hashes: of voxels, by subject and modality; the mask's under ``MASK``.
        crosswalk: see :func:`~mgmt_ray.cohort.persons.read_crosswalk`.
        key: of this cohort in the study file, for reasons and remedies.

    Raises:
        MgmtError: ``exclude`` names an id that the data set does not have.

    >>> subjects = tuple(Subject(name, 1, {"FLAIR": Path(name)}, None) for name in ("P1", "P2"))
    >>> problem = Problem("P2", "truncated", "P2", "truncated file", "Copy it again", "FLAIR")
    >>> config = ReaderConfig(root=Path(), modalities=("FLAIR",), exclude=("P2",))
    >>> selection = select_subjects(ReaderResult(subjects), config, [problem], {})
    >>> [s.id for s in selection.cohort.subjects], selection.cohort.exclusions[0].reason
    (['P1'], 'left out by cohort.exclude')
    """
    problems = [*result.problems, *file_problems]
    _check_known_ids(result, problems, config, key)
    pairs = find_shared_voxels({("", name): by_modality for name, by_modality in hashes.items()})
    copies = [pair for pair in pairs if pair[2] != (MASK,)]
    refs = list_persons(result)
    named = find_persons(refs, crosswalk)
    matched = find_persons(refs, crosswalk, [pair[:2] for pair in copies])
    person = matched if config.rules.get("same_person") == "keep_together" else named
    all_subjects = [replace(s, person=person["", s.id]) for s in result.subjects]
    subjects, exclusions, findings = _apply_rules(
        all_subjects, result.exclusions, problems, config, key
    )
    duplicates = [
        *_duplicate_scans(subjects, {s.id: matched["", s.id] for s in subjects}, copies),
        *_shared_masks(subjects, pairs),
        *_conflicting_labels(subjects, matched),
    ]
    subjects, exclusions, more = _apply_rules(subjects, exclusions, duplicates, config, key)
    findings = sorted([*findings, *more], key=lambda f: (f.problem.subject, f.problem.where))
    cohort = Cohort(tuple(subjects), tuple(exclusions))
    return CohortSelection(cohort, tuple(_with_config_key(finding, key) for finding in findings))


def exclude_persons(
    external: Cohort, cohort: Cohort, person: Mapping[SubjectKey, str], name: str
) -> Cohort:
    """Exclude the persons of the study's own cohort, on which models may have trained.

    Args:
        person: of all subjects of both (see :func:`~mgmt_ray.cohort.persons.find_persons`).

    >>> own, external = (Cohort((Subject(name, 1, {}, None),)) for name in ("P1", "X1"))
    >>> person = {("", "P1"): "Anna", ("hospital", "X1"): "Anna"}
    >>> exclude_persons(external, own, person, "hospital").exclusions[0].reason
    "also in the study's own cohort"
    """
    known = {person["", s.id] for s in cohort.subjects}
    included = [s for s in external.subjects if person[name, s.id] not in known]
    excluded = [s.id for s in external.subjects if person[name, s.id] in known]
    earlier = (e for e in external.exclusions if e.subject not in excluded)
    return Cohort(
        tuple(included), (*earlier, *(Exclusion(s, "cohort", SAME_PERSON_REASON) for s in excluded))
    )


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write ``problems.csv``: every problem, and the key of the study that covers it."""
    rows = [(*astuple(finding.problem), finding.covered_by) for finding in findings]
    write_csv(path, [PROBLEM_COLUMNS, *rows])


def _with_config_key(finding: Finding, key: str) -> Finding:
    """Name the cohort's own section of the study: readers' remedies say ``cohort.``."""
    texts = (finding.problem.remedy, finding.problem.setting)
    remedy, setting = (text.replace("cohort.", f"{key}.") for text in texts)
    return replace(finding, problem=replace(finding.problem, remedy=remedy, setting=setting))


def _check_known_ids(
    result: ReaderResult, problems: Sequence[Problem], config: ReaderConfig, key: str
) -> None:
    ids = {s.id for s in result.subjects} | {p.subject for p in problems}
    ids |= {e.subject for e in result.exclusions if e.scope == "cohort"}
    unknown = [name for name in config.exclude if name not in ids]
    if unknown:
        example = f", whose ids look like {min(ids)}" if ids else ""
        raise MgmtError(
            f"{key}.exclude: {', '.join(unknown)} not in the data set{example}. "
            "Fix the spelling or remove the id."
        )


def _apply_rules(
    subjects: Iterable[Subject],
    exclusions: Iterable[Exclusion],
    problems: Sequence[Problem],
    config: ReaderConfig,
    key: str,
) -> tuple[list[Subject], list[Exclusion], list[Finding]]:
    """Return the remaining subjects with their scans, all exclusions, and the findings."""
    by_id = {subject.id: subject for subject in subjects}
    excluded = {e.subject for e in exclusions if e.scope == "cohort"}
    reasons = {s: f"left out by {key}.exclude" for s in config.exclude if s not in excluded}
    group_of = {m: group for group, members in config.groups.items() for m in members}
    findings: list[Finding] = []
    group_reasons: dict[tuple[str, str], str] = {}
    for problem in problems:
        action = config.rules.get(problem.kind)
        reason = problem.kind.replace("_", " ")
        covered = f"{key}.rules: {problem.kind}: {action}" if action else ""
        if problem.subject in config.exclude:
            covered = f"{key}.exclude"
        elif action == "exclude_subject" or (action == "exclude_scans" and not problem.modality):
            reasons.setdefault(problem.subject, reason)
        elif action == "exclude_scans":
            group_reasons.setdefault((problem.subject, group_of[problem.modality]), reason)
        findings.append(Finding(problem, covered))
    kept = [e for e in exclusions if e.scope == "cohort" or e.subject not in reasons]
    for (name, group), reason in group_reasons.items():
        if name in reasons:
            continue
        scans = by_id[name].scans if name in by_id else {}
        remaining = {m: path for m, path in scans.items() if group_of[m] != group}
        if remaining:
            by_id[name] = replace(by_id[name], scans=remaining)
            kept.append(Exclusion(name, group, reason))
        else:
            reasons[name] = reason
    known = by_id.keys() | {problem.subject for problem in problems}
    kept += [Exclusion(s, "cohort", reason) for s, reason in sorted(reasons.items()) if s in known]
    return [s for s in by_id.values() if s.id not in reasons], kept, findings


def _duplicate_scans(
    subjects: Sequence[Subject],
    person: Mapping[str, str],
    pairs: Sequence[tuple[SubjectKey, SubjectKey, tuple[str, ...]]],
) -> list[Problem]:
    """Return subjects that share scans with an earlier one who is not known to be the same."""
    shared = {(first[1], second[1]): modalities for first, second, modalities in pairs}
    first_of: dict[str, Subject] = {}
    problems = []
    for subject in sorted(subjects, key=lambda s: s.id):
        first = first_of.setdefault(person[subject.id], subject)
        if first.person == subject.person:
            continue
        modalities = shared.get((first.id, subject.id), ())
        which = ", ".join(modalities) or "through copies that are left out"
        shown = [subject.scans[m] for m in modalities if m in subject.scans] or [_any_file(subject)]
        found = f"has the same voxels as {first.id} ({which})"
        remedy = (
            "Leave one out with cohort.exclude, name both in one row of cohort.crosswalk, or set "
            "cohort.rules.same_person: keep_together or exclude_subject"
        )
        problems.append(Problem(subject.id, "same_person", str(shown[0]), found, remedy))
    return problems


def _any_file(subject: Subject) -> Path:
    """Return a file of a subject, for messages."""
    return subject.mask or next(iter(subject.scans.values()))


def _shared_masks(
    subjects: Sequence[Subject], pairs: Sequence[tuple[SubjectKey, SubjectKey, tuple[str, ...]]]
) -> list[Problem]:
    """Return subjects with the mask of another person: no two tumours agree in every voxel."""
    by_id = {subject.id: subject for subject in subjects}
    remedy = "Give each subject its own mask, or leave one out with cohort.exclude"
    problems = []
    for (_, a), (_, b), modalities in pairs:
        both_kept = a in by_id and b in by_id
        if modalities == (MASK,) and both_kept and by_id[a].person != by_id[b].person:
            found = f"has the same mask as {a}, with other scans"
            problems.append(Problem(b, "same_mask", str(by_id[b].mask), found, remedy))
    return problems


def _conflicting_labels(
    subjects: Sequence[Subject], person: Mapping[SubjectKey, str]
) -> list[Problem]:
    """Return a problem for each subject of a person with several labels."""
    by_person: dict[str, list[Subject]] = {}
    for subject in subjects:
        by_person.setdefault(person["", subject.id], []).append(subject)
    problems = []
    for group in by_person.values():
        if len({s.label if s.score is None else s.score for s in group}) > 1:
            names = ", ".join(f"{s.id} {s.label if s.score is None else s.score:g}" for s in group)
            found = f"one person has several labels ({names})"
            remedy = "Find out which is right; leave the others out with cohort.exclude"
            problems += [
                Problem(s.id, "two_labels", str(_any_file(s)), found, remedy) for s in group
            ]
    return problems
