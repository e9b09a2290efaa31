"""The external cohorts of a study, for the report's section on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mgmt_ray.report import metric_tables as tables
from mgmt_ray.report.html_table import Table, slug
from mgmt_ray.report.sections import record_tables as records
from mgmt_ray.report.sections.problem_tables import read_problems
from mgmt_ray.report.sections.segmentation_section import overlap_table
from mgmt_ray.report.sections.slices_section import classification_table
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.statistics.slice_classification import LEVELS
from mgmt_ray.study.folder import StudyFolder


def external_cohorts(out: Path, results: StudyResults) -> list[Mapping[str, Any]]:
    """Return name and tables of each external cohort, in the study's order.

    Raises:
        MgmtError: a problems.csv has other columns.
    """
    return [
        {
            "name": name,
            "flow": records.flow_table(results, name),
            "missing_groups": records.missing_groups_table(results, name),
            "problems": read_problems(
                StudyFolder(out).external(name).problems, f"problems_{slug(name)}"
            ),
            "metrics": tables.external_table(results, name),
            "slices": _slice_result_tables(results, name),
        }
        for name in results.external
    ]


def _slice_result_tables(results: StudyResults, name: str) -> tuple[Table, ...]:
    """Return the existing tables by slice and patient of an external cohort."""
    available = results.external[name].tables
    shown = []
    if "slice_overlap" in available and len(available["slice_overlap"]):
        shown.append(overlap_table(available["slice_overlap"], name))
    if "slice_classification" in available:
        scores = available["slice_classification"]
        shown += [classification_table(scores, level, name) for level in LEVELS]
    return tuple(shown)
