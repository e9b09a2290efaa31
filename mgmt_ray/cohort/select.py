"""From what a reader found to the cohort of a study: each problem is covered, or it stops us."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from mgmt_ray.base import MgmtError, write_text
from mgmt_ray.cohort.cohort import Cohort, Exclusion
from mgmt_ray.cohort.persons import by_voxels, read_crosswalk, same_persons
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.cohort.reader import ReaderConfig, Reading
from mgmt_ray.cohort.subject import Subject, group_of

LEFT_OUT = "left out by cohort.exclude"


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, and what in the study covers it; empty when nothing does."""

    problem: Problem
    covered_by: str


@dataclass(frozen=True, slots=True)
class Selection:
    """A cohort with all that was found wrong on the way.

    Attributes:
        cohort: to be used only when nothing is ``uncovered``.
        findings: every problem, sorted by subject.
    """

    cohort: Cohort
    findings: tuple[Finding, ...]

    @property
    def uncovered(self) -> tuple[Problem, ...]:
        """Problems about which the study says nothing."""
        return tuple(f.problem for f in self.findings if not f.covered_by)


def select(
    reading: Reading,
    config: ReaderConfig,
    file_problems: Iterable[Problem],
    hashes: Mapping[str, Mapping[str, str]],
) -> Selection:
    """Apply ``exclude`` and ``rules`` to everything that is wrong, and find persons twice there.

    Args:
        reading: what the reader found.
        config: of the reader.
        file_problems: of the files' content.
        hashes: by subject and modality, of the voxels.

    Raises:
        MgmtError: ``exclude`` names somebody whom the data set does not have, or the crosswalk
            cannot be read.
    """
    problems = [*reading.problems, *file_problems]
    _refuse_unknown_ids(reading, problems, config)
    subjects, exclusions, findings = _apply(reading.subjects, reading.exclusions, problems, config)
    if config.crosswalk:
        subjects = list(same_persons(subjects, read_crosswalk(config.crosswalk)))
    here = {s.id: hashes.get(s.id, {}) for s in subjects}
    person = {s.id: s.person for s in subjects}
    pairs = [p for p in by_voxels(here) if person[p[0]] != person[p[1]]]
    if config.rules.get("same_person") == "keep_together":
        subjects = _merge(subjects, [(first, second) for first, second, _ in pairs])
    twins = [_twin(*pair, subjects) for pair in pairs]
    torn = _torn(subjects, pairs)
    subjects, exclusions, more = _apply(subjects, exclusions, [*twins, *torn], config)
    findings = sorted([*findings, *more], key=lambda f: (f.problem.subject, f.problem.where))
    return Selection(Cohort(tuple(subjects), tuple(exclusions)), tuple(findings))


def leave_out_persons(
    external: Cohort,
    cohort: Cohort,
    found: Sequence[Subject],
    crosswalks: Sequence[Path],
    twins: Set[str],
) -> Cohort:
    """An external cohort without the persons of the study's own cohort, whom models may know.

    Args:
        external: to be predicted only.
        cohort: of training and test.
        found: the subjects of both as their readers found them, under their first persons.
        crosswalks: of both.
        twins: ids in ``external`` whose voxels a subject of ``cohort`` has.
    """
    # all rows at once: one crosswalk may go on where another ends
    rows = [row for path in crosswalks for row in read_crosswalk(path)]
    rows += [(s.id, s.person) for s in (*cohort.subjects, *external.subjects)]
    person = {s.id: s.person for s in same_persons(found, rows)}
    known = {person[s.id] for s in cohort.subjects}
    stay = [s for s in external.subjects if s.id not in twins and person[s.id] not in known]
    staying = {s.id for s in stay}
    out = [
        Exclusion(s.id, "cohort", "also in the study's own cohort")
        for s in external.subjects
        if s.id not in staying
    ]
    gone = {e.subject for e in out}
    return Cohort(tuple(stay), (*(e for e in external.exclusions if e.subject not in gone), *out))


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write ``problems.csv``: every problem, and what covers it."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("subject", "kind", "where", "found", "remedy", "modality", "covered_by"))
    for finding in findings:
        p = finding.problem
        table.writerow(
            (p.subject, p.kind, p.where, p.found, p.remedy, p.modality, finding.covered_by)
        )
    write_text(path, text.getvalue())


def _refuse_unknown_ids(
    reading: Reading, problems: Sequence[Problem], config: ReaderConfig
) -> None:
    found = {s.id for s in reading.subjects} | {p.subject for p in problems}
    found |= {e.subject for e in reading.exclusions if e.scope == "cohort"}
    unknown = [name for name in config.exclude if name not in found]
    if unknown:
        like = f", whose ids look like {min(found)}" if found else ""
        raise MgmtError(
            f"cohort.exclude: {', '.join(unknown)} not in the data set{like}. "
            "Mend the spelling or remove the id."
        )


def _apply(
    subjects: Iterable[Subject],
    exclusions: Iterable[Exclusion],
    problems: Sequence[Problem],
    config: ReaderConfig,
) -> tuple[list[Subject], list[Exclusion], list[Finding]]:
    """Who stays with which scans, who is out and why, and what covers each problem."""
    by_id = {subject.id: subject for subject in subjects}
    gone = {e.subject for e in exclusions if e.scope == "cohort"}
    reasons = {s: LEFT_OUT for s in config.exclude if s not in gone}
    findings: list[Finding] = []
    partly: dict[tuple[str, str], str] = {}
    for problem in problems:
        action = config.rules.get(problem.kind)
        reason = problem.kind.replace("_", " ")
        covered = f"cohort.rules: {problem.kind}: {action}" if action else ""
        if problem.subject in config.exclude:
            covered = "cohort.exclude"
        elif action == "exclude_subject" or (action == "exclude_scans" and not problem.modality):
            reasons.setdefault(problem.subject, reason)
        elif action == "exclude_scans":
            partly.setdefault((problem.subject, group_of(problem.modality)), reason)
        findings.append(Finding(problem, covered))
    out = [e for e in exclusions if e.scope == "cohort" or e.subject not in reasons]
    for (name, group), reason in partly.items():
        if name in reasons:
            continue
        scans = by_id[name].scans if name in by_id else {}
        left = {m: path for m, path in scans.items() if group_of(m) != group}
        if left:
            by_id[name] = replace(by_id[name], scans=left)
            out.append(Exclusion(name, group, reason))
        else:
            reasons[name] = reason
    known = by_id.keys() | {problem.subject for problem in problems}
    out += [Exclusion(s, "cohort", reason) for s, reason in sorted(reasons.items()) if s in known]
    return [s for s in by_id.values() if s.id not in reasons], out, findings


def _merge(subjects: Sequence[Subject], pairs: Sequence[tuple[str, str]]) -> list[Subject]:
    """Give both subjects of each pair one person."""
    person = {subject.id: subject.person for subject in subjects}
    for first, second in pairs:
        kept, other = sorted((person[first], person[second]))
        person = {name: kept if p == other else p for name, p in person.items()}
    return [replace(subject, person=person[subject.id]) for subject in subjects]


def _twin(
    first: str, second: str, modalities: Sequence[str], subjects: Sequence[Subject]
) -> Problem:
    where = next(str(s.scans[m]) for s in subjects if s.id == second for m in modalities)
    return Problem(
        second,
        "same_person",
        where,
        f"has the voxels of {first} ({', '.join(modalities)})",
        "Leave one out with cohort.exclude, name both in one row of cohort.crosswalk, or set "
        "cohort.rules.same_person: keep_together or exclude_subject",
    )


def _torn(
    subjects: Sequence[Subject], pairs: Sequence[tuple[str, str, tuple[str, ...]]]
) -> list[Problem]:
    """Persons of two labels: by crosswalk, or by the voxels of two subjects."""
    by_person: dict[str, list[Subject]] = {}
    for subject in subjects:
        by_person.setdefault(subject.person, []).append(subject)
    by_id = {subject.id: subject for subject in subjects}
    groups = [*by_person.values(), *([by_id[a], by_id[b]] for a, b, _ in pairs)]
    problems = {}
    for group in groups:
        if len({s.label if s.score is None else s.score for s in group}) > 1:
            names = ", ".join(f"{s.id} {s.label}" for s in group)
            for s in group:
                problems[s.id] = Problem(
                    s.id,
                    "two_labels",
                    str(s.mask),
                    f"one person has several labels ({names})",
                    "Find out which is right; leave the others out with cohort.exclude",
                )
    return list(problems.values())
