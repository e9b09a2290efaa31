from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.report.sections.comparisons_section import (
    best_overall_sentence,
    comparisons_section,
    ranks_table,
)
from mgmt_ray.report.study_results import StudyResults, read_study_results


@pytest.fixture(scope="module")
def results(whole_study: Path) -> StudyResults:
    return replace(read_study_results(whole_study), planted=None)


def test_p_values_stand_beside_the_papers_pair_by_pair(results: StudyResults) -> None:
    rows = results.comparisons[results.comparisons["comparison"] == "DSC+Struct"]
    table = ranks_table(rows, "")
    assert {row[4]: row[7] for row in table.rows} == {
        "SpotTune – From scratch": "0.0503",
        "SpotTune – Transfer": "0.900",
        "From scratch – Transfer": "0.0395",
    }
    assert {row[6] for row in table.rows} == {"0.0222"}


def test_best_overall_stands_beside_the_papers_last_row(results: StudyResults) -> None:
    table = comparisons_section(results).content["probabilities"]
    best = {row[4]: row[6:] for row in table.rows if row[0] == "best overall"}
    assert best["SpotTune – From scratch"] == ("0.0636", "0.0181")
    assert best["SpotTune – Transfer"] == ("0.0636", "0.0768")
    assert "SpotTune DSC+DTI, From scratch Struct, Transfer DTI" in best_overall_sentence()
    assert "0.0768 for 0.768" in best_overall_sentence()
    # neither columns nor sentence beside patients who are not the paper's
    other = comparisons_section(replace(results, planted={})).content
    assert len(other["probabilities"].header) == len(table.header) - 2
    assert other["best_overall"] == ""


def test_errors_have_tests_of_their_own_and_no_published_ones(results: StudyResults) -> None:
    content = comparisons_section(results).content
    assert len(content["errors"].header) == len(content["probabilities"].header) - 2
    row = results.comparisons.iloc[0]
    assert content["errors"].rows[0][1] == f"{row['error_friedman_chi2']:.2f}"
    assert content["probabilities"].rows[0][1] == f"{row['friedman_chi2']:.2f}"


def test_differences_name_the_models_they_are_between(results: StudyResults) -> None:
    content = comparisons_section(results).content
    row = results.comparisons.iloc[0]
    first = content["differences"].rows[0]
    assert first[1] == "SpotTune – From scratch" and first[3] in ("secondary", "as best overall")
    assert first[4].startswith(f"{row['auc_difference']:.3f}\n[{row['auc_difference_low']:.3f}")
    with_baselines = content["baselines"].rows
    assert len(with_baselines) == 3 * 5
    assert with_baselines[0][:2] == ("against Radiomics forest", "SpotTune – Radiomics forest")
    assert {row[0] for row in content["single_inputs"].rows} == {"PH", "FA", "T1"}


def test_two_networks_have_differences_without_ranks(nested_study: Path) -> None:
    content = comparisons_section(read_study_results(nested_study)).content
    assert content["probabilities"] is content["errors"] is content["baselines"] is None
    assert content["differences"].rows
