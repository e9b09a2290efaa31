"""The external cohorts of a study, for the report's section on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.report import metric_tables as tables
from mgmt_ray.report.html_table import Table, slug
from mgmt_ray.report.sections import record_tables as records
from mgmt_ray.report.sections.problem_tables import ProblemTables, read_problems
from mgmt_ray.report.sections.segmentation_section import overlap_table
from mgmt_ray.report.sections.slices_section import classification_table
from mgmt_ray.report.study_results import StudyResults
from mgmt_ray.statistics.slice_scores import LEVELS
from mgmt_ray.study.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class ExternalCohort:
    """The tables of one external cohort.

    Attributes:
        name: the cohort's name in the study.
        metrics: of each network and ensemble.
        flow: subjects, with exclusions counted by reason.
        missing_groups: reasons why subjects have no scans of a group; None if all have them.
        problems: of files and tables.
        slices: segmentation and classification; empty if no network takes slices.
    """

    name: str
    metrics: Table
    flow: Table
    missing_groups: Table | None
    problems: ProblemTables
    slices: tuple[Table, ...]


def external_cohorts(out: Path, results: StudyResults) -> list[ExternalCohort]:
    """Return the tables of each external cohort, in the study's order.

    Raises:
        MgmtError: a problems.csv has other columns.
    """
    return [
        ExternalCohort(
            name,
            tables.external_table(results, name),
            records.flow_table(results, name),
            records.missing_groups_table(results, name),
            read_problems(StudyFolder(out).external(name).problems, f"problems_{slug(name)}"),
            _slice_result_tables(results, name),
        )
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
