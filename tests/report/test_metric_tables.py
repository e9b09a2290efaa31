from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mgmt_ray.base import fingerprint
from mgmt_ray.report import metric_tables as tables
from mgmt_ray.report.sections import record_tables as records
from mgmt_ray.report.sections.record_tables import provenance_table, versions_table
from mgmt_ray.report.study_results import StudyResults, read_study_results


@pytest.fixture(scope="module")
def results(study: Path) -> StudyResults:
    return read_study_results(study)


def test_metrics_are_next_to_the_papers(results: StudyResults) -> None:
    assert not any("paper" in name for name in tables.network_table(results, "random").header)
    table = tables.network_table(replace(results, planted=None), "random")
    metrics = results.metrics
    ours = metrics[(metrics["network"] == "random") & (metrics["ensemble"] == "DTI")].iloc[0]
    (row,) = [row for row in table.rows if "DTI" in row[0].split("\n= ")]
    assert row[2] == f"{ours['auc']:.3f}\n[{ours['auc_low']:.3f}, {ours['auc_high']:.3f}]"
    assert (row[3], row[5], row[7], row[9]) == ("0.6023", "0.5159", "0.3750", "0.6364")
    # a model of several names is one row
    names = [name for row in table.rows for name in row[0].split("\n= ")]
    assert {*names} == {*results.main_ensembles, "best overall", "forward selection"}
    of_network = metrics[(metrics["network"] == "random") & metrics["ensemble"].isin(names)]
    assert len(table.rows) == (of_network["copy_of"] == "").sum() < len(names)
    assert "table 3" in table.caption
    assert all(len(row) == len(table.header) for row in table.rows)


def test_single_modalities_have_a_row_for_each_network(results: StudyResults) -> None:
    table = tables.single_input_table(results)
    assert table is not None
    named = [(row[0], row[1]) for row in table.rows]
    assert named[:3] == [("PH", "SpotTune"), ("PH", "From scratch"), ("PH", "Transfer")]
    assert len(named) == 5 * 3


def test_baselines_are_next_to_the_papers_forest(whole_study: Path) -> None:
    results = replace(read_study_results(whole_study), planted=None)
    table = tables.baselines_table(results)
    assert table is not None
    rows = {row[0]: row for row in table.rows}
    of_covariates = ["Age and sex", "Tumour volume", "Prevalence"]
    assert list(rows) == ["Radiomics forest", "First-order features", *of_covariates]
    assert rows["Radiomics forest"][3::2][:4] == ("0.5764", "0.4886", "0.2174", "0.9355")
    assert rows["Prevalence"][3] == "–"
    assert results.networks == ("spottune", "random", "transfer")
    assert not {"best overall", "age_sex"} & {*results.main_ensembles}


def test_prevalences_low_auc_is_explained_where_splits_differ(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    assert tables.prevalence_note(results) == ""
    nested = replace(results, splits=results.splits * 2)
    assert "falls below 0.5 by construction" in tables.prevalence_note(nested)
    without = results.metrics[results.metrics["network"] != "prevalence"]
    assert tables.prevalence_note(replace(nested, metrics=without)) == ""


def test_every_auc_has_its_interval_and_a_corrected_p(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    table = tables.chance_table(results)
    # 7 groups and 2 choices of 3 networks, 5 baselines; each model once
    names = [name for row in table.rows for name in row[0].split("\n= ")]
    assert len(names) == 9 * 3 + 5 > len(table.rows)
    row = results.metrics.iloc[0]
    assert table.rows[0][3] == f"{row['auc']:.3f}\n[{row['auc_low']:.3f}, {row['auc_high']:.3f}]"
    assert {row[4] for row in table.rows} >= {"primary", "secondary"}
    assert table.rows[0][6] in (f"{row['auc_p_holm']:.3g}", f"{row['auc_p_holm']:.3f}")


def test_rules_are_counted_by_network_and_group() -> None:
    members = pd.DataFrame(
        {
            "network": ["transfer"] * 4 + ["spottune"],
            "modality": ["PH", "PSR", "T1", "PH+PSR", "PH"],
            "rule": ["last_epoch", "best_m", "best_m", "best_m", "last_epoch"],
        }
    )
    assert tables.rules_table(members, is_of_paper=False).header[-1] == "last epoch"
    assert tables.rules_table(members, is_of_paper=True).rows == (
        ("Transfer", "DSC", "2", "1", "1", "3"),
        ("Transfer", "Struct", "1", "1", "0", "5"),
        ("Transfer", "PH+PSR", "1", "1", "0", "–"),
        ("SpotTune", "DSC", "1", "0", "1", "–"),
    )


def test_the_split_table_counts_subjects_with_a_modality(results: StudyResults) -> None:
    rows = {row[0]: row for row in records.split_table(results).rows}
    dsc = {s.id for s in results.cohort.subjects if "PH" in s.scans}
    (split,) = results.splits
    training = [s for s in split.training if s in dsc]
    methylated = sum(s.label for s in results.cohort.subjects if s.id in training)
    assert rows["PH"][1] == f"{len(training)} ({methylated})"
    assert rows["PH"][3] == "0 (0)"
    assert int(rows["T1"][3].split()[0]) == len(split.left_out) > 0
    folds = [int(cell.split()[0]) for cell in rows["all"][4:]]
    assert sum(folds) == len(split.training)


def test_the_flow_starts_with_all_subjects_found(results: StudyResults) -> None:
    rows = dict(records.flow_table(results).rows)
    assert rows["found"] == "127"
    assert rows["excluded: MGMT status not available"] == "7"
    missing = records.missing_groups_table(results)
    assert missing is not None
    assert missing.rows == (("DSC", "no DSC scans", "24"),)


def test_the_flow_shows_no_label_that_follows_from_a_score(results: StudyResults) -> None:
    subjects = [replace(s, score=0.5 * s.label) for s in results.cohort.subjects]
    scored = replace(results, cohort=replace(results.cohort, subjects=tuple(subjects)))
    rows = dict(records.flow_table(scored).rows)
    assert rows["  labelled by each split"] == "120"
    assert rows["  methylated"] == rows["  unmethylated"] == "0"


def test_members_openings_and_versions_are_listed(results: StudyResults) -> None:
    assert len(records.members_table(results).rows) == 75
    openings = records.openings_table(results)
    assert openings is not None
    assert openings.rows[0][-1] == "75"
    assert versions_table(results).rows == (("numpy", "2.4.6"), ("torch", "2.13.0"))
    provenance = dict(provenance_table(results).rows)
    assert provenance["study's seed"] == "42"
    assert provenance["split's hash"] == results.splits[0].hash
    assert f"PH {fingerprint('PH')[:12]}" in provenance["volumes' checksums"]
    spottune = records.training_table(results).rows[0]
    assert spottune == ("SpotTune", "25", "60,506,977", "66", "300", "30.0", "12.5")


def test_an_undefined_criterion_is_a_dash(results: StudyResults) -> None:
    members = results.members.assign(validation_m=float("nan"))
    rows = records.members_table(replace(results, members=members)).rows
    assert {row[9] for row in rows} == {"–"}


def test_several_splits_have_a_row_each(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    table = records.split_table(results)
    assert [row[0] for row in table.rows] == ["0", "1"]
    assert {len(row) for row in table.rows} == {len(table.header)}
    for split, row in zip(results.splits, table.rows, strict=True):
        assert int(row[1].split()[0]) == len(split.training)
        assert int(row[2].split()[0]) == len(split.test)
        assert row[3] == "0 (0)"
    notes = " ".join(records.split_notes(results))
    assert "2 splits: a model is tested on the test subjects of the split" in notes
    assert {row[3] for row in records.members_table(results).rows} == {"0", "1"}


def test_repeated_persons_and_fitted_cutoffs_are_noted(results: StudyResults) -> None:
    plain = records.split_notes(results)
    assert plain[-1] == "All models are tested on the same subjects."
    subjects = [
        replace(s, person="P" if s.id in results.splits[0].folds[0][:2] else "", score=s.label / 2)
        for s in results.cohort.subjects
    ]
    odd = replace(
        results,
        cohort=replace(results.cohort, subjects=tuple(subjects)),
        splits=(replace(results.splits[0], cutoff=0.25),),
    )
    assert records.split_notes(odd)[len(plain) :] == [
        "Persons with several subjects: 1. All subjects of a person have the same role.",
        "Labels follow from the median score of the training subjects alone: 0.25; scores above "
        "it count as methylated.",
    ]
    # labels by the cut-off are those that were given
    assert records.split_table(odd) == records.split_table(results)


def test_an_external_cohort_has_a_table_of_what_its_scans_allow(nested_study: Path) -> None:
    results = read_study_results(nested_study)
    table = tables.external_table(results, "elsewhere")
    assert [row[:5] for row in table.rows[:3]] == [
        ("Struct", "SpotTune", "20", "80", "32"),
        ("T1", "SpotTune", "10", "80", "32"),
        ("T1GD", "SpotTune", "10", "80", "32"),
    ]
    first = results.external["elsewhere"].metrics.iloc[0]
    assert (
        table.rows[0][5] == f"{first['auc']:.3f}\n[{first['auc_low']:.3f}, {first['auc_high']:.3f}]"
    )
    assert table.rows[0][-1] == "above 0.5,\nalso after Holm"
    assert all(len(row) == len(table.header) for row in table.rows)


def test_only_baselines_of_the_study_are_described(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    everything = tables.baselines_sentence(results)
    assert "random forest" in everything and "age and sex" in everything
    without = results.metrics[results.metrics["network"] != "radiomics_forest"]
    fewer = replace(results, metrics=without)
    assert "random forest" not in tables.baselines_sentence(fewer)
    assert "age and sex" in tables.baselines_sentence(fewer)
    table = tables.baselines_table(fewer)
    assert table is not None and not any("paper" in heading for heading in table.header)
