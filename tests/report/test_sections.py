"""Sections on calibration, variance and routing, and the tables they read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError
from mgmt_ray.figures.figure_folder import FigureFolder
from mgmt_ray.figures.network_labels import network_label
from mgmt_ray.report import ensemble_tables
from mgmt_ray.report.sections import calibration_sections, routing_section, variance_sections
from mgmt_ray.report.study_results import StudyResults, read_study_results
from mgmt_ray.selection.best_on_validation import BEST_OVERALL
from mgmt_ray.selection.predictions import write_table
from mgmt_ray.statistics.result_tables import read_existing_results


@pytest.fixture(scope="module")
def results(whole_study: Path) -> StudyResults:
    return read_study_results(whole_study)


def test_without_its_file_a_section_is_one_line_with_the_command(
    results: StudyResults, tmp_path: Path, figures: FigureFolder
) -> None:
    bare = replace(results, tables={})
    sections = [
        calibration_sections.operating_section(bare),
        calibration_sections.calibration_section(bare, figures),
        calibration_sections.decision_section(bare, figures),
        variance_sections.variance_section(bare, figures),
        variance_sections.subgroups_section(bare, figures),
        routing_section.routing_section(bare, figures),
    ]
    for section in sections:
        assert "mgmt-ray ensemble STUDY" in section.missing
        assert ".csv" in section.missing
        assert not section.content
    assert not list(tmp_path.iterdir())


def test_chosen_ensembles_and_baselines_come_first(results: StudyResults) -> None:
    content = calibration_sections.operating_section(results).content
    first = {(row[0], row[1]) for row in content["first"].rows}
    assert first == {
        *((e, n) for e in ensemble_tables.CHOSEN for n in ("SpotTune", "From scratch", "Transfer")),
        *(("–", network_label(name)) for name in results.baselines),
    }
    assert len(results.baselines) == 5
    points = results.tables["operating_points"]
    assert len(content["first"].rows) + len(content["others"].rows) == len(points)


def test_without_a_choice_the_groups_come_first(results: StudyResults) -> None:
    points = results.tables["operating_points"]
    groups = points[points["ensemble"].isin(results.groups)]
    rows = ensemble_tables.leading_rows(groups, results.baselines, results.main_ensembles)
    assert rows.all()


def test_points_have_names_for_readers(results: StudyResults) -> None:
    rows = calibration_sections.operating_section(results).content["first"].rows
    assert [row[2] for row in rows[:3]] == ["0.5", "chosen on validation", "prior corrected"]


def test_both_intercepts_of_calibration_are_shown(results: StudyResults) -> None:
    calibration = results.tables["calibration"]
    known = calibration[
        calibration[["intercept_low", "intercept_at_slope_1_low"]].notna().all(axis=1)
    ]
    table = calibration_sections.calibration_table(known.iloc[:1], "calibration")
    (cells,) = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    row = known.iloc[0]
    with_slope, at_slope_1 = row["intercept"], row["intercept_at_slope_1"]
    assert cells["Intercept\n(with the slope)"].startswith(f"{with_slope:.3f}\n[")
    assert cells["Calibration\nin the large"].startswith(f"{at_slope_1:.3f}\n[")
    assert with_slope != at_slope_1


def test_fits_on_single_folds_models_are_cautioned_about(whole_report: Path) -> None:
    page = whole_report.read_text(encoding="utf-8")
    for anchor in ("operating", "calibration", "decision"):
        section = page[page.index(f'<section id="{anchor}"') :].partition("</section>")[0]
        assert "the models of a single fold" in section
        assert ('href="#calibration"' in section) == (anchor != "calibration")
    assert page.count("used to choose epoch, learning rate and hyper-parameters") == 1


def test_net_benefit_is_given_at_the_nearest_thresholds(results: StudyResults) -> None:
    decision = results.tables["decision"]
    table = calibration_sections.decision_table(decision[decision["ensemble"] == BEST_OVERALL])
    assert table.header[2:] == ("at 0.2", "at 0.3", "at 0.4", "at 0.5")
    curve = decision[(decision["ensemble"] == BEST_OVERALL) & (decision["network"] == "random")]
    nearest = curve.iloc[(curve["threshold"] - 0.3).abs().argmin()]
    (row,) = [row for row in table.rows if row[1] == "From scratch"]
    assert row[3] == f"{nearest['net_benefit']:.3f}"
    assert table.rows[0][3] == f"{nearest['treat_all']:.3f}"


def test_every_source_of_variance_has_a_column(results: StudyResults) -> None:
    variance = results.tables["variance"]
    table = variance_sections.variance_table(variance)
    first = variance.iloc[0]
    column = table.header.index(first["source"])
    assert table.rows[0][column] == f"{first['auc_std']:.4f} ({first['num']})"
    seeds = {row[table.header.index("seeds")] for row in table.rows}
    assert seeds == {"– (1)"}


def test_the_routing_table_has_classes_and_folds(results: StudyResults) -> None:
    policies = results.tables["policies"]
    (row, *_) = routing_section.routing_table(policies).rows
    tuned = policies[policies["modality"] == "PH"].filter(like="block_")
    assert row[:4] == ("SpotTune", "PH", "5", f"{tuned.to_numpy().mean():.3f}")


def test_a_study_without_an_agent_says_so(results: StudyResults, figures: FigureFolder) -> None:
    none = replace(results, tables={"policies": results.tables["policies"].head(0)})
    kinds = {"networks": {"ours": {"kind": "random"}, "theirs": {"kind": "transfer"}}}
    without = replace(results, tables={}, config=kinds)
    for study in (none, without):
        reason = routing_section.routing_section(study, figures).missing
        assert reason == "No network of this study has an agent."
    kinds["networks"]["ours"]["kind"] = "spottune"
    assert "policies.csv" in routing_section.routing_section(without, figures).missing


def test_a_table_of_another_version_is_refused(tmp_path: Path, results: StudyResults) -> None:
    path = tmp_path / "ensembles" / "calibration.csv"
    write_table(results.tables["calibration"].drop(columns="ece"), path)
    with pytest.raises(MgmtError, match="no column ece, so another version"):
        read_existing_results(path.parent, ("calibration",))
