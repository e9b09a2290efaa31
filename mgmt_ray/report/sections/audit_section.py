"""The section on the audit of a study."""

from __future__ import annotations

from collections import Counter

from mgmt_ray.report.html_table import DASH, Table
from mgmt_ray.report.section import Section
from mgmt_ray.report.study_results import StudyResults, is_before, read_time, results_time

NOT_AUDITED = "not audited yet: run `mgmt-ray audit STUDY`"


def audit_section(results: StudyResults) -> Section:
    """Return the section with the outcome of each check."""
    if results.audit is None:
        return Section("audit", "Audit", missing=f"This study is {NOT_AUDITED}.")
    has_failed = any(check.get("outcome") == "failed" for check in results.audit["checks"])
    failed = has_failed or bool(outdated_reason(results))
    content = {
        "sentence": audit_sentence(results),
        "failed": failed,
        "checks": audit_table(results),
    }
    return Section("audit", "Audit", content, is_open=failed)


def outdated_reason(results: StudyResults) -> str:
    """Say why the audit is not of these results; empty if it is, or that is unknown."""
    audit = results.audit or {}
    name, evaluated = audit.get("study"), results.evaluated
    if name is not None and name != results.name:
        reason = f"is of the study {name}"
    elif evaluated and audit.get("evaluated", evaluated) != evaluated:
        reason = "is of other results"
    elif is_before(read_time(audit), results_time(results)):
        reason = "is older than the results"
    else:
        return ""
    return f"This audit {reason}: run `mgmt-ray audit STUDY` again."


def audit_sentence(results: StudyResults) -> str:
    """Say how many checks passed and which did not, or that there was no audit."""
    if results.audit is None:
        return f"Audit: {NOT_AUDITED}."
    checks = results.audit["checks"]
    counts = Counter(str(check["outcome"]) for check in checks)
    parts = [f"{counts['passed']} of {len(checks)} checks passed"]
    for outcome in ("failed", "warning", "not done"):
        names = [str(check["name"]) for check in checks if check["outcome"] == outcome]
        if names:
            parts.append(f"{outcome}: {', '.join(names)}")
    summary = f"Audit of {results.audit.get('time', 'unknown time')}: {'; '.join(parts)}."
    return f"{summary} {outdated_reason(results)}".strip()


def audit_table(results: StudyResults) -> Table:
    """Return a table with a row per check."""
    checks = results.audit["checks"] if results.audit else []
    keys = ("name", "outcome", "expected", "found", "remedy")
    rows = tuple(tuple(str(check.get(key) or DASH) for key in keys) for check in checks)
    header = ("Check", "Outcome", "Expected in a sound study", "Found", "What to do")
    return Table("audit", "Checks of the audit", header, rows, is_wide=True)
