"""Checks of what is there already: how often the test set was opened, and how high an AUC is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mgmt_ray.orchestration.audit.audited import Audited
from mgmt_ray.orchestration.audit.check import Check
from mgmt_ray.selection.predictions import name_some, read_table
from mgmt_ray.statistics.intervals import interval_of

SUSPICIOUS = 0.75
"""Large honest studies of this task report AUCs of .55 to .67."""

IMPLAUSIBLE = 0.9


def check_openings(audited: Audited) -> Check:
    """Every time that the test set was opened."""
    name, expected = "openings of the test set", "at most one"
    path = audited.job.folder.test_openings
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    openings = [_opening(line) for line in lines if line.strip()]
    if not openings:
        return Check(name, "passed", expected, "none")
    found = f"{len(openings)}: {'; '.join(openings)}"
    if len(openings) == 1:
        return Check(name, "passed", expected, found)
    remedy = (
        "Whatever was changed in between may have been chosen for its test result: "
        "say in publications how often the test set was seen and why."
    )
    return Check(name, "warning", expected, found, remedy)


def check_plausible_auc(audited: Audited) -> Check:
    """AUCs that no honest study of this task has."""
    name = "plausible AUC"
    expected = f"no AUC above {SUSPICIOUS}, as in the published studies that were done with care"
    folder = audited.job.folder
    if not (folder.ensembles / "metrics.csv").exists():
        return Check(name, "not done", expected, "the test set was not opened yet")
    if audited.planted:
        found = f"the cohort is synthetic, with a signal in {', '.join(audited.planted)}"
        return Check(name, "not done", expected, found)
    metrics = read_table(folder.ensembles / "metrics.csv", "mgmt-ray ensemble STUDY")
    rows = metrics.sort_values("auc", ascending=False, kind="stable").to_dict("records")
    high = [row for row in rows if row["auc"] > SUSPICIOUS]
    if not high:
        return Check(name, "passed", expected, f"the highest is {_named(rows[0])}")
    beyond = [r for r in high if r["auc"] > IMPLAUSIBLE and r["auc_low"] > SUSPICIOUS]
    found = f"{len(high)} of {len(rows)}: {name_some([_named(row) for row in beyond or high], 3)}"
    remedy = (
        "Look for leakage first: the checks of twins and shortcuts, the same site or scanner in "
        "one class, labels that follow from images; then test on another hospital (external)."
    )
    return Check(name, "failed" if beyond else "warning", expected, found, remedy)


def _opening(line: str) -> str:
    try:
        facts: Mapping[str, Any] = json.loads(line)
        return f"{facts['time']} {facts['purpose']} with {facts['num_members']} members"
    except (ValueError, KeyError, TypeError):
        return "an entry that cannot be read"


def _named(row: Mapping[Any, Any]) -> str:
    same = row["network"] == row["ensemble"]
    model = row["network"] if same else f"{row['network']} {row['ensemble']}"
    return f"{model} {interval_of(row, 'auc')}"
