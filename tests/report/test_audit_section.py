from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mgmt_ray.report.sections.audit_section import audit_section, audit_sentence, outdated_reason
from mgmt_ray.report.study_results import read_study_results
from tests.report.fabricated import AUDITED


def test_each_check_has_its_verdict(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    section = audit_section(results)
    assert section.content["failed"]
    assert section.content["checks"].rows[1] == (
        "duplicates",
        "failed",
        "no scan twice",
        "S0001 and S0002 are one scan",
        "Exclude one of them.",
    )
    assert audit_sentence(results) == (
        f"Audit of {AUDITED}: 1 of 3 checks passed; failed: duplicates; not done: permuted labels."
    )


def test_an_audit_without_a_failure_is_no_warning(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    assert results.audit is not None
    passed = [check for check in results.audit["checks"] if check["outcome"] == "passed"]
    passing = replace(results, audit={**results.audit, "checks": passed})
    assert not audit_section(passing).content["failed"]
    assert audit_sentence(passing) == f"Audit of {AUDITED}: 1 of 1 checks passed."


def test_an_audit_of_other_results_is_a_warning(whole_study: Path) -> None:
    results = read_study_results(whole_study)
    assert results.audit is not None
    passing = replace(results, audit={**results.audit, "checks": []})
    marked = replace(passing, evaluated="a")
    for known in ({}, {"evaluated": "a"}):
        assert outdated_reason(replace(marked, audit={**passing.audit, **known})) == ""
    later = ({"time": "2024-11-22T09:00:01+00:00", "purpose": "ensembles"},)
    pictures = ({"time": "2024-11-22T09:00:01+00:00", "purpose": "explain"},)
    assert outdated_reason(replace(passing, openings=pictures)) == ""
    others = {
        "is older than the results": replace(passing, openings=(*passing.openings, *later)),
        "is of the study other": replace(passing, audit={**passing.audit, "study": "other"}),
        "is of other results": replace(marked, audit={**passing.audit, "evaluated": "b"}),
        "of other results:": replace(marked, audit={**passing.audit, "evaluated": None}),
    }
    for words, other in others.items():
        assert words in outdated_reason(other)
        assert audit_sentence(other).endswith(outdated_reason(other))
        assert audit_section(other).content["failed"]


def test_a_study_that_was_not_audited_says_how(study: Path) -> None:
    results = read_study_results(study)
    assert "run `mgmt-ray audit STUDY`" in audit_sentence(results)
    assert "run `mgmt-ray audit STUDY`" in audit_section(results).missing
