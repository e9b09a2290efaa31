from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.cohort.subject import Subject
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.report.html import render_page
from mgmt_ray.report.sections.page import all_sections
from mgmt_ray.report.sections.subjects_section import (
    partitions_table,
    patients_table,
    sorted_by_age,
    sorted_by_sex,
)
from mgmt_ray.report.study_results import StudyResults, read_study_results
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
        ("", "age unknown"),
        ("old", "age unknown"),
    ],
)
def test_a_band_ends_before_the_next_begins(age: str, band: str) -> None:
    assert [name for name, group in sorted_by_age([subject(age=age)]).items() if group] == [band]


@pytest.mark.parametrize(
    ("sex", "name"), [("M", "male"), ("female", "female"), ("", "sex unknown")]
)
def test_sex_is_read_as_readers_write_it(sex: str, name: str) -> None:
    assert [key for key, group in sorted_by_sex([subject(sex=sex)]).items() if group] == [name]


@pytest.mark.parametrize(
    "age", ["90+", " 64 ", "17", "121", "-3", "Not Available", "nan", "", "6O"]
)
@pytest.mark.parametrize("key", ["age", "Age"])
def test_ages_are_read_as_for_subgroups(age: str, key: str) -> None:
    person = subject(**{key: age})
    (band,) = [name for name, group in sorted_by_age([person]).items() if group]
    level = subject_levels(person)["age"]
    assert band == ("age unknown" if level == "unknown" else level.replace("-", "–"))


def test_the_papers_table_is_next_to_the_studys(results: StudyResults) -> None:
    assert len(patients_table(results).header) == 4  # of synthetic patients
    real = replace(results, planted=None)
    rows = {row[0]: row[1:] for row in patients_table(real).rows}
    assert rows["all"][3:] == ("240 (100.0 %)", "102 (42.5 %)", "138 (57.5 %)")
    assert rows["male"][3:] == ("150 (62.5 %)", "62 (41.3 %)", "88 (58.7 %)")
    # as printed, where 65 of 240 are 27.1 %
    assert rows["70+ years"][3:] == ("65 (27.2 %)", "31 (47.7 %)", "34 (52.3 %)")
    assert rows["18–29 years"][3:] == ("6 (2.5 %)", "1 (16.7 %)", "5 (83.3 %)")


def test_left_out_subjects_are_not_counted(results: StudyResults) -> None:
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
    assert rows["sex unknown"][0] == rows["age unknown"][0] == rows["all"][0]


def test_each_partition_has_its_own_characteristics(results: StudyResults) -> None:
    table = partitions_table(results)
    (split,) = results.splits
    parts = {"training": split.training, "test": split.test, "left out": split.left_out}
    assert [row[0] for row in table.rows] == [*parts]
    for row in table.rows:
        group = [s for s in results.cohort.subjects if s.id in parts[row[0]]]
        ages = np.array([float(s.covariates["age"]) for s in group])
        men = sum(s.covariates["sex"] == "M" for s in group)
        assert row[1] == str(len(group))
        assert row[2].startswith(f"{sum(s.label for s in group)} (")
        assert row[3] == f"{men} ({100 * men / len(group):.1f} %)"
        assert row[4].startswith(f"{len(group) - men} (")
        assert row[5] == "0 (0.0 %)"
        assert row[6] == f"{ages.mean():.1f} ({ages.std(ddof=1):.1f})"
        assert row[7] == "0"
    assert len({row[6] for row in table.rows}) == 3


def test_subjects_without_age_or_sex_are_counted(results: StudyResults) -> None:
    first, second, *_ = results.splits[0].test
    unknown: dict[str, dict[str, str]] = {first: {}, second: {"sex": "?", "age": "old"}}
    subjects = tuple(
        replace(s, covariates=unknown.get(s.id, s.covariates)) for s in results.cohort.subjects
    )
    bare = replace(results, cohort=replace(results.cohort, subjects=subjects))
    row = partitions_table(bare).rows[1]
    assert row[5].startswith("2 (")
    assert row[7] == "2"
    subjects = tuple(replace(s, covariates={}) for s in results.cohort.subjects)
    unknown_ages = replace(results, cohort=replace(results.cohort, subjects=subjects))
    assert {r[6] for r in partitions_table(unknown_ages).rows} == {"–"}


def test_several_splits_have_rows_of_their_own(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    rows = partitions_table(results).rows
    assert [row[0] for row in rows] == [
        f"{name}, split {i}" for i in (0, 1) for name in ("training", "test", "left out")
    ]
    assert rows[5][1:] == ("0", "0", "0", "0", "0", "–", "0")


def test_pooled_splits_change_what_the_page_says(nested_study: Path, tmp_path: Path) -> None:
    results = read_study_results(nested_study)
    sections = all_sections(tmp_path, results, (), FigureFolder(tmp_path))
    page = render_page("x", sections)
    assert page.count("The test subjects of 2 splits are pooled") == 1
    assert "Characteristics by split and partition (6 rows)" in page
