"""What the report tells of the cohorts that are only predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mgmt_ray.report import records, tables
from mgmt_ray.report.gather import StudyResults
from mgmt_ray.report.problems import Problems, read_problems
from mgmt_ray.report.table import Table, slug
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
    """

    name: str
    metrics: Table
    flow: Table
    missing_groups: Table | None
    problems: Problems


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
        )
        for name in results.external
    ]
