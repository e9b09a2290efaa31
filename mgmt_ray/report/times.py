"""When a study's results were made, and what was made before them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mgmt_ray.report.gather import StudyResults
from mgmt_ray.study.folder import openings_by_purpose


def results_time(results: StudyResults) -> datetime | None:
    """When the test set was last opened for results; None where that was not recorded."""
    return _last(openings_by_purpose(results.openings)[0])


def explain_time(results: StudyResults) -> datetime | None:
    """When it was last opened for pictures; None where it was not, or that was not recorded."""
    return _last(openings_by_purpose(results.openings)[1])


def read_time(record: Mapping[str, Any]) -> datetime | None:
    """The time of a record, which is UTC where it names no zone; None where it has none."""
    try:
        time = datetime.fromisoformat(str(record.get("time")))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def is_before(first: datetime | None, second: datetime | None) -> bool:
    """Whether both are known and the first is the earlier."""
    return first is not None and second is not None and first < second


def _last(openings: Iterable[Mapping[str, Any]]) -> datetime | None:
    return max(filter(None, map(read_time, openings)), default=None)
