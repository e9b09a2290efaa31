from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mgmt_ray.report.gather import StudyResults, read_study_results
from mgmt_ray.report.html import render_page
from mgmt_ray.report.sections.page import all_sections
from mgmt_ray.report.sections.subjects_section import partitions_table


@pytest.fixture(scope="module")
def results(study: Path) -> StudyResults:
    return read_study_results(study)


def test_each_partition_has_its_own_characteristics(results: StudyResults) -> None:
    table = partitions_table(results)
    (split,) = results.splits
    parts = {"training": split.training, "test": split.test, "left out": split.left_out}
    assert [row[0] for row in table.rows] == [*parts]
    for row in table.rows:
        who = [s for s in results.cohort.subjects if s.id in parts[row[0]]]
        ages = np.array([float(s.covariates["age"]) for s in who])
        men = sum(s.covariates["sex"] == "M" for s in who)
        assert row[1] == str(len(who))
        assert row[2].startswith(f"{sum(s.label for s in who)} (")
        assert row[3] == f"{men} ({100 * men / len(who):.1f} %)"
        assert row[4].startswith(f"{len(who) - men} (")
        assert row[5] == "0 (0.0 %)"
        assert row[6] == f"{ages.mean():.1f} ({ages.std(ddof=1):.1f})"
        assert row[7] == "0"
    assert len({row[6] for row in table.rows}) == 3


def test_who_has_no_age_or_sex_is_counted(results: StudyResults) -> None:
    first, second, *_ = results.splits[0].test
    unknown: dict[str, dict[str, str]] = {first: {}, second: {"sex": "?", "age": "old"}}
    subjects = tuple(
        replace(s, covariates=unknown.get(s.id, s.covariates)) for s in results.cohort.subjects
    )
    bare = replace(results, cohort=replace(results.cohort, subjects=subjects))
    row = partitions_table(bare).rows[1]
    assert row[5].startswith("2 (")
    assert row[7] == "2"
    nobody = tuple(replace(s, covariates={}) for s in results.cohort.subjects)
    none = replace(results, cohort=replace(results.cohort, subjects=nobody))
    assert {r[6] for r in partitions_table(none).rows} == {"–"}


def test_several_splits_have_rows_of_their_own(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    rows = partitions_table(results).rows
    assert [row[0] for row in rows] == [
        f"{name}, split {i}" for i in (0, 1) for name in ("training", "test", "left out")
    ]
    assert rows[5][1:] == ("0", "0", "0", "0", "0", "–", "0")


def test_pooled_splits_change_what_the_page_says(nested_study: Path, tmp_path: Path) -> None:
    results = read_study_results(nested_study)
    sections = all_sections(tmp_path, results, {}, ())
    page = render_page("x", sections)
    assert page.count("The test subjects of 2 splits are pooled") == 3
    assert "Characteristics by split and partition (6 rows)" in page
