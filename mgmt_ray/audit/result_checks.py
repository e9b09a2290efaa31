"""Checks of existing results: accesses to the test set, and implausibly high AUCs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mgmt_ray.audit.audited_study import AuditContext, Check
from mgmt_ray.selection.predictions import read_complete_table, shorten_list
from mgmt_ray.statistics.intervals import column_names, read_interval
from mgmt_ray.statistics.planted_signal import SUSPICIOUS_AUC
from mgmt_ray.study.folder import StudyFolder, openings_by_purpose

IMPLAUSIBLE_AUC = 0.9
"""A higher AUC fails the check if its interval is above ``SUSPICIOUS_AUC``."""


def check_accesses(audit: AuditContext) -> Check:
    """Check that the test set was accessed for results at most once.

    Accesses for saliency figures are counted separately, as in the report: no number depends on
    them, and a later access for results is counted in any case.
    """
    name, expected = "test-set accesses", "at most one for results"
    path = audit.context.folder.test_openings
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    of_results, for_pictures = openings_by_purpose(
        _read_entry(line) for line in lines if line.strip()
    )
    if not of_results and (audit.context.folder.ensembles / "metrics.csv").exists():
        remedy = f"Restore {path.name}, or state in publications that the number is unknown."
        found = "results on the test set without an entry in the access log: it was altered"
        return Check(name, "failed", expected, found, remedy)
    if not of_results and not for_pictures:
        return Check(name, "passed", expected, "none")
    found = f"{len(of_results)} for results: {'; '.join(map(_describe_entry, of_results))}"
    if for_pictures:
        found += f"; {len(for_pictures)} to explain predictions, which affect no result"
        found += f": {'; '.join(map(_describe_entry, for_pictures))}"
    if len(of_results) <= 1:
        return Check(name, "passed", expected, found)
    remedy = (
        "Changes made in between may have been chosen for their test result: state in "
        "publications how often the test set was accessed, and why."
    )
    return Check(name, "warning", expected, found, remedy)


def check_plausible_auc(audit: AuditContext) -> Check:
    """Check that no AUC on the test set or an external cohort is implausibly high."""
    name = "plausible AUC"
    expected = f"no AUC above {SUSPICIOUS_AUC}, as in carefully validated published studies"
    folder = audit.context.folder
    if not (folder.ensembles / "metrics.csv").exists():
        return Check(name, "not done", expected, "there are no test results yet")
    if audit.planted:
        found = f"the cohort is synthetic, with a signal in {', '.join(audit.planted)}"
        return Check(name, "not done", expected, found)
    rows = _metrics(folder)
    for cohort in audit.study.external:
        external = folder.external(cohort)
        if (external.ensembles / "metrics.csv").exists():
            rows += [row | {"cohort": cohort} for row in _metrics(external)]
    rows.sort(key=lambda row: -row["auc"])
    high = [row for row in rows if row["auc"] > SUSPICIOUS_AUC]
    if not high:
        return Check(name, "passed", expected, f"the highest is {_row_name(rows[0])}")
    implausible = [r for r in high if r["auc"] > IMPLAUSIBLE_AUC and r["auc_low"] > SUSPICIOUS_AUC]
    shown = shorten_list([_row_name(row) for row in implausible or high], 3)
    found = f"{len(high)} of {len(rows)}: {shown}"
    remedy = (
        "Look for leakage first: the checks for duplicates and shortcuts, one site or scanner per "
        "class, labels derived from images; then test on another hospital (external)."
    )
    return Check(name, "failed" if implausible else "warning", expected, found, remedy)


def _metrics(folder: StudyFolder) -> list[dict[Any, Any]]:
    columns = ("network", "ensemble", *column_names("auc"))
    return read_complete_table(folder.ensembles / "metrics.csv", columns).to_dict("records")


def _read_entry(line: str) -> Mapping[str, Any]:
    """Return an entry of the access log; empty if it cannot be read."""
    try:
        metadata = json.loads(line)
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _describe_entry(metadata: Mapping[str, Any]) -> str:
    try:
        return f"{metadata['time']} {metadata['purpose']} with {metadata['num_members']} members"
    except KeyError:
        return "an entry that cannot be read"


def _row_name(row: Mapping[Any, Any]) -> str:
    same = row["network"] == row["ensemble"]
    model = row["network"] if same else f"{row['network']} {row['ensemble']}"
    where = f" on {row['cohort']}" if "cohort" in row else ""
    return f"{model}{where} {read_interval(row, 'auc')}"
