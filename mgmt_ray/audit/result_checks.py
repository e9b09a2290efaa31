"""Checks of what is there already: how often the test set was opened, and how high an AUC is."""

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


def check_openings(audit: AuditContext) -> Check:
    """Every time that the test set was opened; for results it may be once.

    Openings for pictures are told apart, as in the report: no number follows from them, and another
    opening for results after one is counted anyway.
    """
    name, expected = "openings of the test set", "at most one for results"
    path = audit.context.folder.test_openings
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    of_results, for_pictures = openings_by_purpose(
        _read_opening(line) for line in lines if line.strip()
    )
    if not of_results and (audit.context.folder.ensembles / "metrics.csv").exists():
        remedy = f"Restore {path.name}, or say in publications that it is not known."
        found = "results of the test set, and no opening in the log: it was deleted or changed"
        return Check(name, "failed", expected, found, remedy)
    if not of_results and not for_pictures:
        return Check(name, "passed", expected, "none")
    found = f"{len(of_results)} for results: {'; '.join(map(_describe_opening, of_results))}"
    if for_pictures:
        found += f"; {len(for_pictures)} to explain predictions, which no result follows from"
        found += f": {'; '.join(map(_describe_opening, for_pictures))}"
    if len(of_results) <= 1:
        return Check(name, "passed", expected, found)
    remedy = (
        "Whatever was changed in between may have been chosen for its test result: "
        "say in publications how often the test set was seen and why."
    )
    return Check(name, "warning", expected, found, remedy)


def check_plausible_auc(audit: AuditContext) -> Check:
    """AUCs, on the test set and on external cohorts, that no honest study of this task has."""
    name = "plausible AUC"
    expected = f"no AUC above {SUSPICIOUS_AUC}, as in published studies done with care"
    folder = audit.context.folder
    if not (folder.ensembles / "metrics.csv").exists():
        return Check(name, "not done", expected, "the test set was not opened yet")
    if audit.planted:
        found = f"the cohort is synthetic, with a signal in {', '.join(audit.planted)}"
        return Check(name, "not done", expected, found)
    rows = _metrics(folder)
    for cohort in audit.study.external:
        there = folder.external(cohort)
        if (there.ensembles / "metrics.csv").exists():
            rows += [row | {"cohort": cohort} for row in _metrics(there)]
    rows.sort(key=lambda row: -row["auc"])
    high = [row for row in rows if row["auc"] > SUSPICIOUS_AUC]
    if not high:
        return Check(name, "passed", expected, f"the highest is {_row_name(rows[0])}")
    beyond = [r for r in high if r["auc"] > IMPLAUSIBLE_AUC and r["auc_low"] > SUSPICIOUS_AUC]
    found = (
        f"{len(high)} of {len(rows)}: {shorten_list([_row_name(row) for row in beyond or high], 3)}"
    )
    remedy = (
        "Look for leakage first: the checks of twins and shortcuts, the same site or scanner in "
        "one class, labels that follow from images; then test on another hospital (external)."
    )
    return Check(name, "failed" if beyond else "warning", expected, found, remedy)


def _metrics(folder: StudyFolder) -> list[dict[Any, Any]]:
    columns = ("network", "ensemble", *column_names("auc"))
    return read_complete_table(folder.ensembles / "metrics.csv", columns).to_dict("records")


def _read_opening(line: str) -> Mapping[str, Any]:
    """Of an opening; nothing of an entry that cannot be read."""
    try:
        metadata = json.loads(line)
    except ValueError:
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _describe_opening(metadata: Mapping[str, Any]) -> str:
    try:
        return f"{metadata['time']} {metadata['purpose']} with {metadata['num_members']} members"
    except KeyError:
        return "an entry that cannot be read"


def _row_name(row: Mapping[Any, Any]) -> str:
    same = row["network"] == row["ensemble"]
    model = row["network"] if same else f"{row['network']} {row['ensemble']}"
    where = f" on {row['cohort']}" if "cohort" in row else ""
    return f"{model}{where} {read_interval(row, 'auc')}"
