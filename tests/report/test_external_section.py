from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mgmt_ray.base import MgmtError, write_text
from mgmt_ray.cohort.cohort import Cohort, Exclusion, read_cohort, write_cohort
from mgmt_ray.cohort.inclusion import Finding, write_findings
from mgmt_ray.cohort.problem import Problem
from mgmt_ray.report.html import render_page, write_report
from mgmt_ray.report.section import Section
from mgmt_ray.report.sections.external_section import external_cohorts
from mgmt_ray.report.study_results import read_study_results

SCRIPT = "<script>alert(1)</script>"
RULE = "external.elsewhere.rules: other_grid: exclude_scans"


@pytest.fixture
def out(nested_study: Path, tmp_path: Path) -> Path:
    """A copy with an external cohort, elsewhere."""
    shutil.copytree(nested_study, tmp_path / "out")
    return tmp_path / "out"


def test_an_external_cohort_has_its_own_flow_exclusions_and_problems(out: Path) -> None:
    folder = out / "external" / "elsewhere"
    before = read_cohort(folder)
    first, *others = before.subjects
    more = [Exclusion("E1", "cohort", "empty mask"), Exclusion(first.id, "Struct", "other grid")]
    less = replace(first, scans={"T1": first.scans["T1"]})
    write_cohort(Cohort((less, *others), (*before.exclusions, *more)), folder)
    findings = [Finding(Problem(first.id, "other_grid", "x", "y", "z", "T1GD"), RULE)]
    write_findings(findings, folder / "problems.csv")
    (cohort,) = external_cohorts(out, read_study_results(out))
    assert cohort["name"] == "elsewhere"
    assert cohort["flow"].rows == (
        ("found", "88"),
        ("excluded: MGMT status not available", "7"),
        ("excluded: empty mask", "1"),
        ("in the cohort", "80"),
        ("  methylated", "32"),
        ("  unmethylated", "48"),
        ("  with DSC", "0"),
        ("  with Struct", "79"),
    )
    assert cohort["missing_groups"] is not None
    assert cohort["missing_groups"].rows == (("Struct", "other grid", "1"),)
    assert cohort["problems"].counts is not None
    assert cohort["problems"].counts.rows == (("other grid", RULE, "1"),)
    section = render_page(
        "x", [Section("external", "External", {"cohorts": [cohort], "predicted_masks": False})]
    )
    for phrase in ("Flow of subjects of elsewhere", "empty mask", "Problems found: 1", RULE):
        assert phrase in section


def test_a_cohort_that_the_evaluated_study_does_not_name_is_not_reported(out: Path) -> None:
    study = (out / "study.yaml").read_text(encoding="utf-8")
    write_text(out / "ensembles" / "study.yaml", study.partition("external:")[0])
    results = read_study_results(out)
    assert not results.external
    assert external_cohorts(out, results) == []
    assert "elsewhere" not in results.config_text
    assert (out / "external" / "elsewhere" / "ensembles" / "metrics.csv").is_file()


def test_a_broken_table_of_problems_is_named(out: Path) -> None:
    path = out / "external" / "elsewhere" / "problems.csv"
    write_text(path, "subject\nA\n")
    with pytest.raises(MgmtError, match=r"elsewhere.*not a table of problems"):
        write_report(out)


def test_markup_in_either_cohort_reaches_the_page_as_text(out: Path) -> None:
    for folder in (out, out / "external" / "elsewhere"):
        cohort = read_cohort(folder)
        first = replace(cohort.subjects[0], covariates={SCRIPT: SCRIPT})
        excluded = [Exclusion(SCRIPT, scope, SCRIPT) for scope in ("cohort", SCRIPT)]
        # an id of the study's own is in its split, which was made before
        last = cohort.subjects[-1] if folder == out else replace(cohort.subjects[-1], id=SCRIPT)
        write_cohort(Cohort((first, *cohort.subjects[1:-1], last), tuple(excluded)), folder)
        problem = Problem(SCRIPT, "other_grid", SCRIPT, SCRIPT, SCRIPT, SCRIPT)
        write_findings([Finding(problem, SCRIPT)], folder / "problems.csv")
    report = write_report(out).read_text(encoding="utf-8")
    assert report.count("<script") == 1  # its own, that sorts
    assert "External cohort elsewhere, predicted only" in report
    section = report[report.index('id="external"') :].partition("</section>")[0]
    # flow 1, group and reason 2, cover counted 1, a problem's six columns less its kind 5
    assert section.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 9
    assert report.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2 * 9
