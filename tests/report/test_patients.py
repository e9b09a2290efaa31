from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.cohort.subject import Subject
from mgmt_ray.report.gather import StudyResults, read_study_results
from mgmt_ray.report.sections.subjects_section import patients_table, sorted_by_age, sorted_by_sex
from mgmt_ray.statistics.subgroups import subject_levels


def subject(**covariates: str) -> Subject:
    return Subject("S", 0, {}, Path("mask"), covariates)


@pytest.fixture(scope="module")
def results(study: Path) -> StudyResults:
    return read_study_results(study)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("17.9", "under 18"),
        ("18", "18–29"),
        ("29.99", "18–29"),
        ("30", "30–49"),
        ("49.5", "30–49"),
        ("50", "50–69"),
        ("70", "70+"),
        ("", "age not known"),
        ("old", "age not known"),
    ],
)
def test_a_band_ends_before_the_next_begins(age: str, band: str) -> None:
    assert [n for n, who in sorted_by_age([subject(age=age)]).items() if who] == [band]


@pytest.mark.parametrize(
    ("sex", "name"), [("M", "male"), ("female", "female"), ("", "sex not known")]
)
def test_sex_is_read_as_readers_write_it(sex: str, name: str) -> None:
    assert [n for n, who in sorted_by_sex([subject(sex=sex)]).items() if who] == [name]


@pytest.mark.parametrize(
    "age", ["90+", " 64 ", "17", "121", "-3", "Not Available", "nan", "", "6O"]
)
@pytest.mark.parametrize("key", ["age", "Age"])
def test_ages_are_read_as_for_subgroups(age: str, key: str) -> None:
    who = subject(**{key: age})
    (band,) = [name for name, found in sorted_by_age([who]).items() if found]
    own = subject_levels(who)["age"]
    assert band == ("age not known" if own == "unknown" else own.replace("-", "–"))


def test_the_papers_table_stands_beside_ours(results: StudyResults) -> None:
    rows = {row[0]: row[1:] for row in patients_table(results).rows}
    assert rows["all"][3:] == ("240 (100.0 %)", "102 (42.5 %)", "138 (57.5 %)")
    assert rows["male"][3:] == ("150 (62.5 %)", "62 (41.3 %)", "88 (58.7 %)")
    # as printed, where 65 of 240 are 27.1 %
    assert rows["70+ years"][3:] == ("65 (27.2 %)", "31 (47.7 %)", "34 (52.3 %)")
    assert rows["18–29 years"][3:] == ("6 (2.5 %)", "1 (16.7 %)", "5 (83.3 %)")


def test_who_neither_trains_nor_is_tested_is_not_counted(results: StudyResults) -> None:
    (split,) = results.splits
    used = {*split.training, *split.test}
    assert split.left_out
    men = [s for s in results.cohort.subjects if s.id in used and s.covariates["sex"] == "M"]
    rows = {row[0]: row[1:] for row in patients_table(results).rows}
    assert rows["male"][0] == f"{len(men)} ({100 * len(men) / len(used):.1f} %)"
    assert rows["male"][1].startswith(f"{sum(s.label for s in men)} (")
    assert rows["all"][0] == f"{len(used)} (100.0 %)"


def test_a_cohort_without_covariates_says_so(results: StudyResults) -> None:
    subjects = tuple(replace(s, covariates={}) for s in results.cohort.subjects)
    bare = replace(results, cohort=replace(results.cohort, subjects=subjects))
    rows = {row[0]: row[1:] for row in patients_table(bare).rows}
    assert rows["male"][0] == "0 (0.0 %)"
    assert rows["sex not known"][0] == rows["age not known"][0] == rows["all"][0]
