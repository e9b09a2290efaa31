from __future__ import annotations

from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, write_text
from mgmt_ray.cohort.inclusion import Finding, write_findings
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.report.sections.problem_tables import read_problems


def problem(subject: str, kind: str, modality: str = "") -> Problem:
    return Problem(subject, kind, f"{subject}/x.nii.gz", "is odd, 'really'", "Fix it", modality)


def test_problems_are_counted_by_kind_and_cover_and_then_listed(tmp_path: Path) -> None:
    rule = "cohort.rules: other_grid: exclude_scans"
    findings = [
        Finding(problem("A", "other_grid", "T1"), rule),
        Finding(problem("A", "other_grid", "T2"), rule),
        Finding(problem("B", "other_grid", "T1"), "cohort.exclude"),
        Finding(problem("C", "no_mask"), ""),
    ]
    write_findings(findings, tmp_path / "problems.csv")
    problems = read_problems(tmp_path / "problems.csv")
    assert problems.sentence == "Problems found: 4, with files or rows of 3 subjects."
    assert problems.counts is not None and problems.problems is not None
    assert problems.counts.rows == (
        ("no mask", "nothing", "1"),
        ("other grid", "cohort.exclude", "1"),
        ("other grid", rule, "2"),
    )
    assert [row[0] for row in problems.problems.rows] == ["A", "A", "B", "C"]
    listed = ("A", "T1", "other grid", "is odd, 'really'", "A/x.nii.gz", rule)
    assert problems.problems.rows[0] == listed
    assert problems.problems.rows[3][1] == "–"
    assert problems.problems.rows[3][5] == "nothing"
    assert all(len(row) == len(problems.problems.header) for row in problems.problems.rows)


def test_no_problem_and_none_recorded_are_distinguished(tmp_path: Path) -> None:
    path = tmp_path / "problems.csv"
    unrecorded = read_problems(path)
    assert "not recorded" in unrecorded.sentence
    write_findings([], path)
    assert read_problems(path).sentence == "No problem was found in any file or table."
    assert read_problems(path).counts is read_problems(path).problems is None


def test_a_file_that_is_no_table_of_problems_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "problems.csv"
    write_text(path, "subject,kind\nA,other_grid\n")
    with pytest.raises(MgmtError, match="not a table of problems"):
        read_problems(path)
