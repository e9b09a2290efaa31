"""What the report tells of the cohorts that are only predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.report import metric_tables as tables
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.html_table import Table, slug
from mgmt_ray.report.sections import record_tables as records
from mgmt_ray.report.sections.problem_tables import ProblemTables, read_problems
from mgmt_ray.report.sections.segmentation_section import overlap_table
from mgmt_ray.report.sections.slices_section import classification_table
from mgmt_ray.statistics.slice_scores import LEVELS
from mgmt_ray.study.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class ExternalCohort:
    """One of them.

    Attributes:
        name: in the study.
        metrics: of each network and ensemble.
        flow: of its subjects, with exclusions counted by reason.
        missing_groups: why subjects lack a group; None if none does.
        problems: with its files and tables.
        slices: how they were segmented and classified; empty where no network takes slices.
    """

    name: str
    metrics: Table
    flow: Table
    missing_groups: Table | None
    problems: ProblemTables
    slices: tuple[Table, ...]


def external_cohorts(out: Path, results: StudyResults) -> list[ExternalCohort]:
    """Those that the evaluated study names, in its order.

    Args:
        out: the study's folder.
        results: read from there.

    Raises:
        MgmtError: a problems.csv is not one.
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
    """Tables by slice and patient of an external cohort, as far as they were made."""
    further = results.external[name].tables
    tables = []
    if "slice_overlap" in further and len(further["slice_overlap"]):
        tables.append(overlap_table(further["slice_overlap"], name))
    if "slice_classification" in further:
        scores = further["slice_classification"]
        tables += [classification_table(scores, level, name) for level in LEVELS]
    return tuple(tables)
