from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.cohort.cohort import Cohort, Exclusion, exclusion_flow
from mgmt_ray.cohort.inclusion import (
    MASK,
    CohortSelection,
    exclude_persons,
    select_subjects,
    write_findings,
)
from mgmt_ray.cohort.persons import read_crosswalk
from mgmt_ray.cohort.plain_table import TableConfig
from mgmt_ray.cohort.problem import Action, Problem, ProblemKind
from mgmt_ray.cohort.reader import ReaderConfig, ReaderResult
from mgmt_ray.cohort.subject import Subject

GROUPS = ("PH", "FA", "FLAIR")


def subject(name: str, label: int = 1, modalities: tuple[str, ...] = GROUPS) -> Subject:
    return Subject(name, label, {m: Path(f"{name}_{m}.nii.gz") for m in modalities}, Path(name))


def problem(name: str, kind: ProblemKind = "truncated", modality: str = "FA") -> Problem:
    return Problem(name, kind, f"{name}_{modality}.nii.gz", "found this", "Do that", modality)


RESULT = ReaderResult(
    tuple(subject(name, label) for name, label in (("a", 1), ("b", 0), ("c", 1), ("d", 0))),
    (Exclusion("e", "cohort", "follow-up scan"), Exclusion("a", "DSC", "no DSC")),
)


SAME_LABELS = ReaderResult(tuple(subject(name) for name in "abcd"))


def select(
    problems: tuple[Problem, ...] = (),
    rules: dict[ProblemKind, Action] | None = None,
    exclude: tuple[str, ...] = (),
    hashes: dict[str, dict[str, str]] | None = None,
    crosswalk: Path | None = None,
    result: ReaderResult = RESULT,
    key: str = "cohort",
) -> CohortSelection:
    config = ReaderConfig(root=Path(), modalities=GROUPS, rules=rules or {}, exclude=exclude)
    rows = read_crosswalk(crosswalk) if crosswalk else ()
    return select_subjects(result, config, problems, hashes or {}, rows, key)


def names(cohort: Cohort) -> list[str]:
    return [s.id for s in cohort.subjects]


def number_found(cohort: Cohort) -> int:
    return exclusion_flow(cohort, GROUPS)[0][1]


def test_without_problems_all_subjects_are_included() -> None:
    selection = select()
    assert names(selection.cohort) == ["a", "b", "c", "d"]
    assert set(selection.cohort.exclusions) == set(RESULT.exclusions)
    assert selection.findings == ()


def test_a_problem_that_nothing_covers_is_unresolved() -> None:
    selection = select((problem("b"), problem("c")), exclude=("c",))
    assert [p.subject for p in selection.unresolved] == ["b"]
    assert [f.covered_by for f in selection.findings] == ["", "cohort.exclude"]
    assert str(selection.unresolved[0]) == "b: b_FA.nii.gz: found this (truncated). Do that."


def test_a_rule_takes_out_the_subject_and_counts_it() -> None:
    selection = select((problem("b"),), {"truncated": "exclude_subject"})
    assert selection.unresolved == ()
    assert names(selection.cohort) == ["a", "c", "d"]
    assert Exclusion("b", "cohort", "truncated") in selection.cohort.exclusions
    assert number_found(selection.cohort) == 5
    assert selection.findings[0].covered_by == "cohort.rules: truncated: exclude_subject"


def test_a_rule_takes_out_the_group_of_the_scan() -> None:
    selection = select((problem("b"),), {"truncated": "exclude_scans"})
    by_name = {s.id: s for s in selection.cohort.subjects}
    assert set(by_name["b"].scans) == {"PH", "FLAIR"}
    assert set(by_name["a"].scans) == set(GROUPS)
    assert Exclusion("b", "DTI", "truncated") in selection.cohort.exclusions


def test_in_a_table_a_bad_scan_takes_no_other_modality_with_it() -> None:
    modalities = ("T1", "FLAIR")
    config = TableConfig(
        root=Path(), reader="table", modalities=modalities, rules={"truncated": "exclude_scans"}
    )
    result = ReaderResult((subject("a", 1, modalities), subject("b", 0, modalities)))
    selection = select_subjects(result, config, (problem("a", modality="T1"),), {})
    assert [set(s.scans) for s in selection.cohort.subjects] == [{"FLAIR"}, {"T1", "FLAIR"}]
    assert selection.cohort.exclusions == (Exclusion("a", "T1", "truncated"),)


def test_problems_of_an_external_cohort_name_its_own_section() -> None:
    setting = "set cohort.rules.unknown_label: exclude_subject"
    faulty = Problem("a", "unknown_label", "t.csv", "no label", "Write one", setting=setting)
    (finding,) = select((faulty,), key="external.hospital").findings
    assert "Write one, or set external.hospital.rules.unknown_label" in str(finding.problem)
    (finding,) = select((faulty,), exclude=("a",), key="external.hospital").findings
    assert finding.covered_by == "external.hospital.exclude"
    with pytest.raises(MgmtError, match=r"external\.hospital\.exclude: z not in"):
        select(exclude=("z",), key="external.hospital")


def test_a_subject_whose_last_scans_are_taken_out_is_out() -> None:
    result = ReaderResult((subject("a", 1, ("FA",)), subject("b")))
    selection = select((problem("a"),), {"truncated": "exclude_scans"}, result=result)
    assert names(selection.cohort) == ["b"]
    assert selection.cohort.exclusions == (Exclusion("a", "cohort", "truncated"),)


def test_a_bad_mask_takes_the_subject_out_even_where_scans_would_do() -> None:
    selection = select((problem("b", "truncated", ""),), {"truncated": "exclude_scans"})
    assert names(selection.cohort) == ["a", "c", "d"]


def test_subjects_with_problems_in_the_reader_are_counted_too() -> None:
    result = ReaderResult(RESULT.subjects, RESULT.exclusions, (problem("z", "unknown_label", ""),))
    assert [p.subject for p in select(result=result).unresolved] == ["z"]
    by_rule = select(result=result, rules={"unknown_label": "exclude_subject"}).cohort
    by_name = select(result=result, exclude=("z",)).cohort
    assert number_found(by_rule) == number_found(by_name) == 6
    assert Exclusion("z", "cohort", "left out by cohort.exclude") in by_name.exclusions


def test_excluding_an_excluded_subject_keeps_the_first_reason() -> None:
    assert select(exclude=("e",)).cohort == select().cohort


def test_excluding_an_unknown_id_is_an_error() -> None:
    with pytest.raises(MgmtError, match="unknown not in the data set, whose ids look like a"):
        select(exclude=("unknown",))


DUPLICATES = {"a": {"PH": "1", "FLAIR": "2"}, "c": {"PH": "3", "FLAIR": "2"}, "d": {"PH": "4"}}


def test_a_renamed_copy_is_found_by_its_voxels() -> None:
    (duplicate,) = select(hashes=DUPLICATES).unresolved
    assert (duplicate.subject, duplicate.kind, duplicate.where) == (
        "c",
        "same_person",
        "c_FLAIR.nii.gz",
    )
    assert duplicate.found == "has the same voxels as a (FLAIR)"


def test_a_copy_is_left_out_or_kept_together_as_the_study_says() -> None:
    left_out = select(hashes=DUPLICATES, rules={"same_person": "exclude_subject"})
    assert names(left_out.cohort) == ["a", "b", "d"]
    together = select(hashes=DUPLICATES, rules={"same_person": "keep_together"})
    assert together.unresolved == ()
    assert [s.person for s in together.cohort.subjects] == ["a", "b", "a", "d"]


def test_copies_of_copies_are_one_person() -> None:
    chain = {"a": {"PH": "1"}, "c": {"PH": "1", "FA": "2"}, "d": {"FA": "2"}}
    result = ReaderResult(tuple(subject(name) for name in "abcd"))
    together = select(hashes=chain, rules={"same_person": "keep_together"}, result=result)
    assert [s.person for s in together.cohort.subjects] == ["a", "b", "a", "a"]


def test_a_copy_with_another_label_is_a_problem_of_both() -> None:
    hashes = {"a": {"PH": "1"}, "b": {"PH": "1"}}
    selection = select(hashes=hashes, rules={"same_person": "keep_together"})
    assert [(p.subject, p.kind) for p in selection.unresolved] == [
        ("a", "two_labels"),
        ("b", "two_labels"),
    ]
    rules: dict[ProblemKind, Action] = {
        "same_person": "keep_together",
        "two_labels": "exclude_subject",
    }
    assert names(select(hashes=hashes, rules=rules).cohort) == ["c", "d"]


def test_subjects_in_one_row_of_a_crosswalk_are_one_person_and_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "crosswalk.csv"
    path.write_text("here,there\na,c\n")
    selection = select(hashes=DUPLICATES, crosswalk=path)
    assert selection.unresolved == ()
    assert [s.person for s in selection.cohort.subjects] == ["a", "b", "a", "d"]


def test_an_external_cohort_loses_the_persons_of_the_study() -> None:
    external = Cohort(tuple(subject(name) for name in ("x1", "x2", "b")))
    person = {("", name): name for name in "abcd"}
    person |= {("x", "x1"): "a", ("x", "x2"): "x2", ("x", "b"): "another b"}
    left = exclude_persons(external, select().cohort, person, "x")
    assert names(left) == ["b", "x2"]
    assert exclusion_flow(left, GROUPS)[0] == ("found", 3)
    assert left.exclusions == (Exclusion("x1", "cohort", "also in the study's own cohort"),)


def test_an_excluded_subject_still_connects_the_others(tmp_path: Path) -> None:
    path = tmp_path / "crosswalk.csv"
    path.write_text("c,b\nb,a\n")
    cohort = select(crosswalk=path, exclude=("b",), result=SAME_LABELS).cohort
    assert [s.person for s in cohort.subjects] == ["a", "a", "d"]
    chain = {"a": {"PH": "1"}, "b": {"PH": "1", "FA": "2"}, "c": {"FA": "2"}, "d": {}}
    rules: dict[ProblemKind, Action] = {
        "same_person": "keep_together",
        "empty_mask": "exclude_subject",
    }
    bad = problem("b", "empty_mask", "")
    cohort = select((bad,), rules, hashes=chain, result=SAME_LABELS).cohort
    assert [s.person for s in cohort.subjects] == ["a", "a", "d"]
    rules["same_person"] = "exclude_subject"
    selection = select((bad,), rules, hashes=chain, result=SAME_LABELS)
    assert names(selection.cohort) == ["a", "d"]
    assert "through copies that are left out" in str(selection.findings[-1].problem)


def test_a_copy_whose_shared_scan_is_left_out_is_still_a_problem() -> None:
    hashes = {"a": {"FLAIR": "1"}, "b": {"FLAIR": "1"}}
    rules: dict[ProblemKind, Action] = {"truncated": "exclude_scans"}
    selection = select((problem("b", modality="FLAIR"),), rules, hashes=hashes, result=SAME_LABELS)
    (duplicate,) = selection.unresolved
    assert (duplicate.subject, duplicate.kind) == ("b", "same_person")


def test_a_mask_of_another_subject_is_a_problem() -> None:
    hashes = {"a": {"PH": "1", MASK: "m"}, "c": {"PH": "2", MASK: "m"}}
    (duplicate,) = select(hashes=hashes).unresolved
    assert (duplicate.subject, duplicate.kind) == ("c", "same_mask")
    assert duplicate.found == "has the same mask as a, with other scans"
    duplicates = {"a": {"PH": "1", MASK: "m"}, "c": {"PH": "1", MASK: "m"}}
    assert [p.kind for p in select(hashes=duplicates).unresolved] == ["same_person"]
    assert select(hashes=duplicates, rules={"same_person": "keep_together"}).unresolved == ()


def test_every_problem_is_written_with_what_covers_it(tmp_path: Path) -> None:
    selection = select((problem("b"), problem("c")), exclude=("c",))
    write_findings(selection.findings, tmp_path / "problems.csv")
    with (tmp_path / "problems.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["subject"], r["kind"], r["modality"], r["covered_by"]) for r in rows] == [
        ("b", "truncated", "FA", ""),
        ("c", "truncated", "FA", "cohort.exclude"),
    ]
